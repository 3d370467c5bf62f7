"""The server: who is on it, and what it answers to a device's stanzas (whatsapp-protocol.md 5)."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType

from tests.whatsapp import trust
from tests.whatsapp.account import Account
from tests.whatsapp.certificate import make_certificate
from tests.whatsapp.connection import Connection
from tests.whatsapp.front import Front, WebSocket
from tests.whatsapp.ledger import Ledger
from tests.whatsapp.news import News
from tests.whatsapp.noise import Authority
from tests.whatsapp.people import Device, Party, Peer, now, text_of
from tests.whatsapp.wire import SERVER, Jid, Node, node

log = logging.getLogger(__name__)


class WhatsApp:
    """A WhatsApp on loopback: `async with WhatsApp() as server`."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._stack = AsyncExitStack()
        self.news = News()
        self.ledger = Ledger(self.news)
        self.errors: list[BaseException] = []
        self.accounts: list[Account] = []
        self.peers: list[Peer] = []
        self._connections: set[Connection] = set()
        self._seen: set[tuple[str, str]] = set()
        self._number = 0
        self._authority = Authority()

    async def __aenter__(self) -> WhatsApp:
        """Listen."""
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="whatsapp-")))
        self._certificate, tls = make_certificate(directory)
        self._site = trust.write_trust(directory, self._authority.root.public)
        self.front = Front(tls, self._serve)
        await self._stack.enter_async_context(self.front.listening(self._port))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut every connection."""
        await self._stack.aclose()

    def environment(self) -> dict[str, str]:
        """What a process under test needs in its environment, from its start."""
        return trust.environment(self.front.proxy_url, self._certificate, self._site)

    @property
    def refusing(self) -> bool:
        """Whether new connections are refused, as if the network were down."""
        return self.front.refusing

    @refusing.setter
    def refusing(self, value: bool) -> None:
        self.front.refusing = value

    # --- who is on it ------------------------------------------------------------------------

    def add_account(self, number: str, *, name: str = "", lid: str = "") -> Account:
        """An account: a phone that may link a device."""
        pn, hidden = self._addresses(number, lid)
        account = Account(self, pn, hidden, name or number)
        self.accounts.append(account)
        return account

    def add_peer(self, number: str, *, name: str = "", lid: str = "") -> Peer:
        """An ordinary user."""
        pn, hidden = self._addresses(number, lid)
        peer = Peer(self, pn, hidden, name or number)
        self.peers.append(peer)
        return peer

    def _addresses(self, number: str, lid: str) -> tuple[Jid, Jid]:
        pn = Jid(number.lstrip("+"))
        if self.party(pn) is not None:
            raise ValueError(f"{number} is on this WhatsApp already")
        return pn, Jid(lid or f"9{number.lstrip('+'):0>14}", "lid")

    def party(self, jid: Jid) -> Party | None:
        """Whose number or hidden id this is."""
        account = self.account(jid)
        if account is not None:
            return account.phone.party
        return next((peer for peer in self.peers if peer.is_at(jid)), None)

    def account(self, jid: Jid) -> Account | None:
        """The account with this number or hidden id."""
        return next((a for a in self.accounts if a.phone.party.is_at(jid)), None)

    def next_id(self) -> str:
        """A fresh stanza id."""
        self._number += 1
        return f"TEST{self._number:016X}"

    async def drop(self, account: Account) -> None:
        """Cut an account's connection."""
        await account.drop()

    def candidate(self, ref: str, identity: bytes) -> tuple[Connection, Device]:
        """The connection that shows a QR code with this ref.  Raises ValueError."""
        for connection in self._connections:
            device = connection.candidate
            if device is not None and ref in connection.refs and device.identity == identity:
                return connection, device
        raise ValueError("nobody shows this QR code (any more)")

    # --- connections -----------------------------------------------------------------------------

    async def _serve(self, socket: WebSocket) -> None:
        try:
            connection = await Connection.accept(socket, self._authority)
            async with self._present(connection):
                await self._talk(connection)
        except ConnectionError:
            pass  # the client is gone
        except Exception as error:
            log.exception("a connection failed")
            self.errors.append(error)
        finally:
            socket.abort()

    @asynccontextmanager
    async def _present(self, connection: Connection) -> AsyncIterator[None]:
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)

    async def _talk(self, connection: Connection) -> None:
        if connection.candidate is not None:
            refs = [node("ref", ref.encode()) for ref in connection.refs]
            offer = node("pair-device", *refs)
            await connection.send(node("iq", offer, from_=SERVER, type_="set", id=self.next_id()))
            async for stanza in connection.stanzas():
                if stanza.child("pair-device-sign") is not None:
                    await connection.send(node("stream:error", code=515))
            return
        account = self.account(Jid(connection.username))
        if account is None:
            await connection.send(node("failure", reason=401, location="test"))
            await asyncio.sleep(0.1)
            return
        if not await account.log_in(connection):
            return
        try:
            async for stanza in connection.stanzas():
                await self._handle(account, connection, stanza)
        finally:
            account.logged_off(connection)

    async def _handle(self, account: Account, connection: Connection, stanza: Node) -> None:
        ident = stanza.get("id")
        match stanza.tag:
            case "iq" if stanza.get("type") in ("get", "set"):
                if account.answers_queries:
                    result = self._answer(account, connection, stanza)
                    await connection.send(
                        node("iq", *result, type_="result", id=ident, from_=SERVER)
                    )
            case "message":
                if account.acks_messages:
                    to = stanza.jid("to")
                    await connection.send(
                        node("ack", class_="message", id=ident, from_=to, t=now())
                    )
                await self._deliver(account, connection, stanza)
            case "receipt":
                self._receipted(account, stanza)
                to = stanza.jid("to")
                await connection.send(node("ack", class_="receipt", id=ident, from_=to, t=now()))
            case "ack" if ident in account.queue:
                account.receipted(ident, f"ack {stanza.get('class')}")

    def _receipted(self, account: Account, receipt: Node) -> None:
        kind = receipt.get("type") or "delivery"
        if kind == "retry":
            return  # it could not be read: the message stays in the queue until it was sent anew
        more = receipt.child("list")
        for ident in (
            receipt.get("id"),
            *(item.get("id") for item in (more.children if more else ())),
        ):
            account.receipted(ident, kind)

    # --- queries -----------------------------------------------------------------------------------

    def _answer(self, account: Account, connection: Connection, iq: Node) -> list[Node]:
        """The content of the answer; for a query that needs none an empty result will do."""
        query = iq.children[0] if iq.children else node("none")
        device = connection.device
        assert device is not None
        match iq.get("xmlns"), query.tag:
            case "encrypt", "count":
                # "5 or more" makes a new device upload 50 keys, not 812 (whatsapp-protocol.md 5.3).
                return [node("count", value=max(5, len(device.one_time)))]
            case "encrypt", "key":
                return [node("list", *(self._bundle(user.jid("jid")) for user in query.children))]
            case "encrypt", _:
                for key in (iq.child("list") or query).children:
                    number = int.from_bytes(key.bytes("id"), "big")
                    device.one_time[number] = key.bytes("value")
            case "usync", _:
                return [self._usync(query)]
            case "md", "remove-companion-device":
                account.devices.clear()
            case "w:sync:app:state", _:
                names = [(c.get("name"), c.get("version") or "0") for c in query.children]
                states = [node("collection", name=n, version=v) for n, v in names]
                return [node("sync", *states)]
        return []

    def _bundle(self, jid: Jid) -> Node:
        account = self.account(jid)
        if account is not None and jid.device in account.devices:
            return account.devices[jid.device].bundle_node(jid)
        party = self.party(jid)
        if party is not None and jid.device == 0:
            return party.bundle_node(jid)
        return node("user", node("error", code=404, text="item-not-found"), jid=jid)

    def _usync(self, query: Node) -> Node:
        wants = {child.tag for child in (query.child("query") or query).children}
        users = [self._usync_user(user, wants) for user in (query.child("list") or query).children]
        attrs: dict[str, str | Jid] = {
            name: query.attrs[name] for name in ("sid", "mode", "context") if name in query.attrs
        }
        return Node("usync", attrs, [node("list", *users)])

    def _usync_user(self, user: Node, wants: set[str]) -> Node:
        asked = None
        if "jid" in user.attrs:
            jid = user.jid("jid")
        else:  # <contact>+15550002222</contact>
            asked = user.bytes("contact")
            jid = Jid(asked.decode().lstrip("+").split("@")[0])
        party, account = self.party(jid), self.account(jid)
        answers = []
        if "contact" in wants:
            content = [asked] if asked is not None else []
            answers.append(node("contact", *content, type_="in" if party else "out"))
        if "devices" in wants and party is not None:
            numbers = [0, *(account.devices if account is not None else ())]
            devices = (node("device", id=number) for number in numbers)
            answers.append(node("devices", node("device-list", *devices)))
        if "lid" in wants and party is not None:
            answers.append(node("lid", val=party.lid))
        return node("user", *answers, jid=jid)

    # --- messages ------------------------------------------------------------------------------------

    async def _deliver(self, account: Account, connection: Connection, message: Node) -> None:
        """Hand a device's message to everybody it is for; a frame that comes again is only counted."""
        ident, device = message.get("id"), connection.device
        assert device is not None
        if (account.name, ident) in self._seen:
            self.ledger.repeated(account, ident)
            return
        self._seen.add((account.name, ident))
        for to in (message.child("participants") or message).children:
            enc = to.child("enc")
            if to.tag == "to" and enc is not None and enc.data is not None:
                await self._deliver_one(account, device, message, to.jid("jid"), enc)
        self.news.tell()

    async def _deliver_one(
        self, account: Account, device: Device, message: Node, to: Jid, enc: Node
    ) -> None:
        other = self.account(to)
        if other is not None and to.device in other.devices:
            await self._relay(account, device, other, message, enc)
            return
        party = self.party(to)
        if party is None or enc.data is None:
            return
        plain = party.decrypt(device, enc.get("type"), enc.data)
        if party is account.phone.party:
            return  # the copy for our own phone
        ident = message.get("id")
        self.ledger.received(account, ident, party.name, text_of(plain))
        if isinstance(party, Peer):
            party.take(account, ident, plain)
            if party.auto_receipts:
                await party.send_receipt(account, ident)
            if party.auto_read:
                await party.send_receipt(account, ident, "read")

    async def _relay(
        self, sender: Account, device: Device, other: Account, message: Node, enc: Node
    ) -> None:
        """One device under test writes to another: the ciphertext goes through as it is."""
        content = [enc]
        identity = message.child("device-identity")
        if enc.get("type") == "pkmsg" and identity is not None:
            content.append(identity)
        ident = message.get("id")
        self.ledger.sent(other, sender.phone.party, ident, "")
        await other.post(
            node(
                "message",
                *content,
                id=ident,
                t=now(),
                type_="text",
                from_=device.lid,
                sender_pn=device.jid,
                notify=sender.name,
            )
        )
