"""An account: its phone, its linked device, the device's connection and the queue of what it has not receipted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.whatsapp.people import Device, Party, now
from tests.whatsapp.phone import Phone
from tests.whatsapp.wire import SERVER, Jid, Node, Value, node

if TYPE_CHECKING:
    from tests.whatsapp.connection import Connection
    from tests.whatsapp.server import WhatsApp


@dataclass(frozen=True)
class Failure:
    """How the next logins are refused: <failure reason=... .../> (whatsapp-protocol.md 7)."""

    reason: int
    code: int | None = None
    expire: int | None = None

    def as_node(self) -> Node:
        """The stanza."""
        return node(
            "failure", reason=self.reason, code=self.code, expire=self.expire, location="test"
        )


class Account:
    """One WhatsApp account.  `acks_messages`, `answers_queries` and `forgets_receipts` make the server misbehave."""

    def __init__(self, server: WhatsApp, pn: Jid, lid: Jid, name: str) -> None:
        self.server = server
        self.name = name
        self.phone = Phone(self, Party(pn, lid, name))
        self.devices: dict[int, Device] = {}
        self.connection: Connection | None = None
        self.queue: dict[str, Node] = {}
        self.login_failure: Failure | None = None
        self.logins = 0
        self.acks_messages = True
        self.answers_queries = True
        self.forgets_receipts = False

    @property
    def pn(self) -> Jid:
        """Its phone number."""
        return self.phone.party.pn

    @property
    def lid(self) -> Jid:
        """Its hidden id."""
        return self.phone.party.lid

    def link(self, device: Device) -> None:
        """The phone linked this device; the one before, and what waited for it, is gone."""
        self.devices = {device.number: device}
        self.queue.clear()

    # --- connections -------------------------------------------------------------------------

    @property
    def online(self) -> bool:
        """Whether its device is logged in."""
        return self.connection is not None

    async def wait_online(self, timeout: float = 10) -> None:
        """Until its device is logged in."""
        await self.server.news.until(lambda: self.online, timeout, f"login of {self.name}")

    async def wait_offline(self, timeout: float = 10) -> None:
        """Until its device is gone."""
        await self.server.news.until(lambda: not self.online, timeout, f"end of {self.name}")

    async def log_in(self, connection: Connection) -> bool:
        """A device logs in (whatsapp-protocol.md 5.2); whether it may."""
        refusal = self.login_failure
        if refusal is None and connection.device_number not in self.devices:
            refusal = Failure(401)
        if refusal is not None:
            await connection.send(refusal.as_node())
            await asyncio.sleep(0.1)  # or the client sees the end of the stream first
            return False
        await self._replace_with(connection)
        device = self.devices[connection.device_number]
        connection.device = device
        self.logins += 1
        await connection.send(
            node("success", t=now(), lid=device.lid, location="test", creation=now())
        )
        waiting = list(self.queue.values())
        counts = {"count": len(waiting), "message": len(waiting)}
        preview = node("offline_preview", appdata=0, notification=0, receipt=0, **counts)
        await connection.send(node("ib", preview, from_=SERVER))
        for stanza in waiting:
            await self._put(
                Node(stanza.tag, {**stanza.attrs, "offline": "0"}, stanza.children, stanza.data)
            )
        await connection.send(node("ib", node("offline", count=len(waiting)), from_=SERVER))
        self.server.news.tell()
        return True

    async def _replace_with(self, connection: Connection) -> None:
        older, self.connection = self.connection, connection
        if older is not None:
            await older.end(node("stream:error", node("conflict", type_="replaced")))

    def logged_off(self, connection: Connection) -> None:
        """A connection ended."""
        if self.connection is connection:
            self.connection = None
            self.server.news.tell()

    async def drop(self) -> None:
        """Cut the TCP connection."""
        if self.connection is not None:
            self.connection.abort()
            await self.wait_offline()

    async def log_out(self) -> None:
        """The phone removes the device: the stream ends with 401, and later logins are refused."""
        self.devices.clear()
        self.queue.clear()
        removed = node("stream:error", node("conflict", type_="device_removed"), code=401)
        await self._end(removed)

    async def replace(self) -> None:
        """Another client takes the session over."""
        await self._end(node("stream:error", node("conflict", type_="replaced")))

    async def _end(self, goodbye: Node) -> None:
        if self.connection is not None:
            await self.connection.end(goodbye)
            await self.wait_offline()

    # --- to the device ---------------------------------------------------------------------------

    async def send(self, stanza: Node) -> None:
        """Send a stanza now.  Raises ConnectionError when the device is away."""
        if self.connection is None:
            raise ConnectionError(f"the device of {self.name} is not connected")
        await self.connection.send(stanza)

    async def post(self, message: Node) -> None:
        """Deliver a message now, or when the device logs in; until it is receipted it stays in the queue."""
        self.queue[message.get("id")] = message
        if self.connection is not None:
            await self._put(message)

    async def _put(self, message: Node) -> None:
        assert self.connection is not None
        self.server.ledger.on_wire(self, message.get("id"))
        with suppress(ConnectionError):  # it has just gone; the queue keeps the message
            await self.connection.send(message)

    def receipted(self, ident: str, kind: str) -> None:
        """The device acknowledged a message: it leaves the queue."""
        self.server.ledger.receipted(self, ident, kind)
        if not self.forgets_receipts:
            self.queue.pop(ident, None)

    async def notify(self, kind: str, *content: Node, **attrs: Value) -> None:
        """Send a <notification>."""
        ident = self.server.next_id()
        stanza = node(
            "notification", *content, from_=SERVER, type_=kind, id=ident, t=now(), **attrs
        )
        await self.send(stanza)
