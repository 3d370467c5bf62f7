"""An account: its phone and its linked devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.whatsapp.connection import Connection
from tests.whatsapp.contents import StanzaKind, text_of
from tests.whatsapp.device import Device, DeviceKeys, Envelope
from tests.whatsapp.people import Person
from tests.whatsapp.phone import Phone
from tests.whatsapp.wire import SERVER, Jid, Node, Value, node

if TYPE_CHECKING:
    from tests.whatsapp.server import WhatsApp

_TIMEOUT = 30.0
_BANNED = 402  # reason of a <failure>
_RESTART = 515  # code of a <stream:error>


@dataclass(frozen=True)
class Failure:
    """How the next logins are refused: <failure reason=... .../>.

    See docs/internals/whatsapp-protocol.md#refusals-and-stream-errors.
    """

    reason: int
    code: int | None = None
    expire: int | None = None
    message: str | None = None

    def as_node(self) -> Node:
        """The stanza."""
        return node(
            "failure", reason=self.reason, code=self.code, expire=self.expire,
            message=self.message, location="test",
        )  # fmt: skip


class Account:
    """One WhatsApp account.  `presence` is the last presence of a device, `last_message` the last stanza that it sent,
    `unheard` what arrived while it was silent.

    These make the server misbehave: `login_failure` refuses logins; `silent` leaves everything on a live connection
    unanswered, `acks_messages` False the account's messages, `answers_queries` False its queries, `answers_numbers`
    False the questions whether a number is on WhatsApp, which `number_error` answers with an error (429);
    `forgets_receipts` keeps receipted messages in the queue; `ack_delay` is the delay in seconds of the acknowledgement
    of a message, `ack_error` its error code (463: see docs/internals/whatsapp-protocol.md#sending).
    """

    def __init__(self, server: WhatsApp, pn: Jid, lid: Jid, name: str) -> None:
        self.server = server
        self.name = name
        self.phone = Phone(server, self, pn, lid, name)
        self.devices: dict[int, Device] = {}
        self.logins = 0
        self.login_failure: Failure | None = None
        self.acks_messages = True
        self.answers_queries = True
        self.answers_numbers = True
        self.number_error: int | None = None
        self.forgets_receipts = False
        self.ack_delay = 0.0
        self.ack_error: int | None = None
        self._silent = False
        self.unheard: list[Node] = []
        self.presence = ""
        self.last_message: Node | None = None
        self._last_number = 0

    @property
    def pn(self) -> Jid:
        """Its phone number."""
        return self.phone.pn

    @property
    def lid(self) -> Jid:
        """Its LID."""
        return self.phone.lid

    def deliver(
        self, sender: Person, ident: str, content: bytes, kind: StanzaKind, *, garbled: bool = False
    ) -> None:
        """Another phone writes to it."""
        self.server.ledger.sent(self, sender.pn.user, ident, text_of(content))
        for device in self.devices.values():
            sender.post(device, ident, content, kind, garbled=garbled, **sender.origin())

    def notify(self, change: Node, kind: str, **attrs: Value) -> None:
        """Notify its devices of a change; from the server, unless the attributes say otherwise."""
        ident, now = self.server.next_id(), self.server.now()
        stanza = node(
            "notification", change, type_=kind, id=ident, t=now, **{"from_": SERVER, **attrs}
        )
        for device in self.devices.values():
            device.post(Envelope(stanza))

    # --- devices ------------------------------------------------------------------------------

    def link(self, keys: DeviceKeys) -> Device:
        """The phone links a device; it gets the next number, others stay linked."""
        self._last_number += 1
        device = self.devices[self._last_number] = Device(self, self._last_number, keys)
        return device

    def unlink(self, number: int) -> None:
        """Remove a device and the stanzas that wait for it."""
        self.devices.pop(number, None)

    def may_log_in(self, connection: Connection) -> Device | Failure:
        """The device that a connection claims to be, or why not.  Devices have a number and a noise key."""
        if self.login_failure is not None:
            return self.login_failure
        device = self.devices.get(connection.device_number)
        if device is None or device.keys.noise != connection.noise:
            return Failure(401)
        return device

    # --- connections --------------------------------------------------------------------------

    @property
    def online(self) -> bool:
        """Whether a device of it is logged in."""
        return any(device.connection is not None for device in self.devices.values())

    async def wait_offline(self, timeout: float = _TIMEOUT) -> None:
        """Wait until no device is logged in.  A device that reconnects at once may be missed; see `drop`."""
        what = f"end of {self.name}'s connection"
        await self.server.news.until(lambda: not self.online, timeout, what, self._seen)

    def _seen(self) -> str:
        devices = [f"{d.jid} {'on' if d.connection else 'off'}line" for d in self.devices.values()]
        return f"{self.logins} logins, {', '.join(devices) or 'no linked device'}"

    @property
    def silent(self) -> bool:
        """Whether a live connection gets no answers."""
        return self._silent

    @silent.setter
    def silent(self, value: bool) -> None:
        self._silent = value
        if not value:
            for device in self.devices.values():
                device.resume()

    async def wait_unheard(self, tag: str) -> None:
        """Wait until a stanza with this tag arrived without an answer."""
        what = f"a {tag} of {self.name} while it is silent"
        await self.server.news.until(
            lambda: any(stanza.tag == tag for stanza in self.unheard), _TIMEOUT, what, self._seen
        )

    def redeliver(self, ident: str, *, anew: bool = False) -> None:
        """Deliver a message again to every device: the same ciphertext, or encrypted again under the same id."""
        for device in self.devices.values():
            device.redeliver(ident, anew=anew)

    async def drop(self) -> None:
        """Cut the TCP connections; they have ended when this returns."""
        ending = self._connections()
        for connection in ending:
            connection.abort()
        await self._gone(ending)

    async def log_out(self) -> None:
        """The phone removes every device: the stream ends with 401, and later logins are refused."""
        ending = self._connections()
        self.devices.clear()
        removed = node("stream:error", node("conflict", type_="device_removed"), code=401)
        await self._end(ending, removed)

    async def replace(self) -> None:
        """Another client takes over the session."""
        await self._end(
            self._connections(), node("stream:error", node("conflict", type_="replaced"))
        )

    async def end_stream(self, code: int) -> None:
        """End every stream with an error; after 515 the client itself hangs up.

        See docs/internals/whatsapp-protocol.md#refusals-and-stream-errors.
        """
        ending, error = self._connections(), node("stream:error", code=code)
        if code != _RESTART:
            await self._end(ending, error)
            return
        for connection in ending:
            connection.send(error)
        await self._gone(ending)

    async def ban(self, *, code: int = 101, seconds: int = 3600) -> None:
        """Ban it for some time: the connections are cut, and logins are refused with 402."""
        self.login_failure = Failure(_BANNED, code=code, expire=seconds)
        await self.drop()

    def _connections(self) -> list[Connection]:
        return [d.connection for d in self.devices.values() if d.connection is not None]

    async def _end(self, connections: list[Connection], goodbye: Node) -> None:
        for connection in connections:
            connection.end(goodbye)
        await self._gone(connections)

    async def _gone(self, connections: Iterable[Connection]) -> None:
        for connection in connections:
            what = f"end of {self.name}'s connection"
            await self.server.news.until(connection.gone, _TIMEOUT, what, self._seen)
