"""The server: its persons, and their connections."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.whatsapp import linking, stanzas, trust
from tests.whatsapp.account import Account, Failure
from tests.whatsapp.certificate import make_certificate
from tests.whatsapp.connection import CODES, Connection
from tests.whatsapp.device import Device
from tests.whatsapp.front import Front, WebSocket
from tests.whatsapp.groups import Group
from tests.whatsapp.ledger import Ledger
from tests.whatsapp.media import MediaHost
from tests.whatsapp.news import News
from tests.whatsapp.newsletters import Newsletter
from tests.whatsapp.noise import Authority
from tests.whatsapp.peers import Peer
from tests.whatsapp.people import Person
from tests.whatsapp.queries import NumberAnswer
from tests.whatsapp.wire import SERVER, STATUS, Jid, node

log = logging.getLogger(__name__)


class WhatsApp:
    """A test server on loopback: `async with WhatsApp() as server`.  `errors` contains the errors of its own tasks.

    `pings`: seconds between pings of clients, instead of 20 to 30.  `codes`: the number of QR codes for a device;
    `pairing_failure`: it gets none, but is refused.
    """

    def __init__(self, port: int = 0, *, pings: float | None = None) -> None:
        self._port = port
        self._pings = pings
        self.codes = CODES
        self.pairing_failure: Failure | None = None
        self._stack = AsyncExitStack()
        self.errors: list[BaseException] = []
        self.news = News(self.errors)
        self.ledger = Ledger(self.news)
        self.media = MediaHost()
        self.clock: Callable[[], float] = time.time  # of every stanza
        self.number_answer = NumberAnswer.BOTH
        self.asked_numbers: list[str] = []
        self.groups: dict[Jid, Group] = {}
        self.accounts: list[Account] = []
        self.peers: list[Peer] = []
        self._people: dict[Jid, Person] = {}
        self._spellings: dict[Jid, Person] = {}
        self._account_of: dict[Jid, Account] = {}
        self._connections: set[Connection] = set()
        self._seen: set[tuple[Account, str]] = set()
        self._number = 0
        self._authority = Authority()

    async def __aenter__(self) -> Self:
        """Listen."""
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="whatsapp-")))
        self._certificate, tls = make_certificate(directory)
        self._site = trust.write_trust(directory, self._authority.root.public, self._pings)
        self._front = Front(tls, self.media, self._serve, self.failed, self.news.notify)
        await self._stack.enter_async_context(self._front.listening(self._port))
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
        """The environment for a process under test, from its start."""
        return trust.environment(self._front.proxy_url, self._certificate, self._site)

    @property
    def root_key(self) -> bytes:
        """The public key that signs the certificates of its handshakes, for a client that can be configured."""
        return self._authority.root.public

    @property
    def refusing(self) -> bool:
        """Whether new connections are refused, as if the network were down."""
        return self._front.refusing

    @refusing.setter
    def refusing(self, value: bool) -> None:
        self._front.refusing = value

    @property
    def stalling(self) -> bool:
        """Whether a connection gets as far as TLS, and no answer from then on."""
        return self._front.stalling

    @stalling.setter
    def stalling(self, value: bool) -> None:
        self._front.stalling = value

    async def wait_stalled(self) -> None:
        """Wait until a connection waits for an answer."""
        await self.news.until(lambda: self._front.stalled, 10, "connection that is left waiting")

    async def drop(self, account: Account) -> None:
        """Cut an account's connection."""
        await account.drop()

    async def drop_unlinked(self) -> None:
        """Cut the connections on which QR codes are shown."""
        ending = self.unlinked()
        for connection in ending:
            connection.abort()
        for connection in ending:
            await self.news.until(connection.gone, 10, "end of a connection that shows codes")

    def failed(self, error: BaseException) -> None:
        """Record an error in a task of the server."""
        log.error("the WhatsApp test server failed", exc_info=error)
        self.errors.append(error)
        self.news.notify()

    # --- its persons --------------------------------------------------------------------------

    def add_account(self, number: str, *, name: str = "", lid: str = "") -> Account:
        """An account: a phone that may link devices.  Raises ValueError for a number that is in use."""
        pn, hidden = self._addresses(number, lid)
        account = Account(self, pn, hidden, name or pn.user)
        self.accounts.append(account)
        for jid in (pn, hidden):
            self._people[jid], self._account_of[jid] = account.phone, account
        return account

    def add_peer(self, number: str, *, name: str = "", lid: str = "") -> Peer:
        """An ordinary user.  Raises ValueError for a number that is in use."""
        pn, hidden = self._addresses(number, lid)
        peer = self._people[pn] = self._people[hidden] = Peer(self, pn, hidden, name or pn.user)
        self.peers.append(peer)
        return peer

    def _addresses(self, number: str, lid: str) -> tuple[Jid, Jid]:
        digits = number.removeprefix("+")
        if not digits.isdecimal():
            raise ValueError(f"{number!r} is not a phone number")
        pn, hidden = Jid(digits), Jid(lid or f"9{digits:0>14}", "lid")
        for jid in (pn, hidden):
            if jid in self._people:
                raise ValueError(f"{jid} is on this WhatsApp already")
        return pn, hidden

    def person(self, jid: Jid) -> Person | None:
        """The person with this number, in any spelling, or LID."""
        return self._people.get(jid.bare()) or self._spellings.get(jid.bare())

    def add_spelling(self, number: str, person: Person) -> None:
        """Let people write a person's number in another way, as they do in Brazil, Mexico and Argentina."""
        self._spellings[Jid(number.removeprefix("+"))] = person

    def change_number(self, person: Person, number: str) -> None:
        """A person changes the number and stays the same person; the old number is free then."""
        del self._people[person.pn]
        person.pn = Jid(number.removeprefix("+"))
        self._people[person.pn] = person

    def account(self, jid: Jid) -> Account | None:
        """The account with this number or LID."""
        return self._account_of.get(jid.bare())

    def device(self, jid: Jid) -> Device | None:
        """The linked device with this address."""
        account = self.account(jid)
        return None if account is None else account.devices.get(jid.device)

    def add_group(self, subject: str, *members: Person | Account, by_number: bool = False) -> Group:
        """A group; its members, the first of whom created it, are notified."""
        persons = [m if isinstance(m, Person) else m.phone for m in members]
        jid = Jid(f"1203630{len(self.groups) + 1:011}", "g.us")
        group = self.groups[jid] = Group(self, jid, subject, persons, by_number=by_number)
        group.announce()
        return group

    def status_of(self, author: Person) -> Group:
        """The address for statuses: a broadcast to all accounts (status@broadcast)."""
        readers = [account.phone for account in self.accounts if account.phone is not author]
        return Group(self, STATUS, "", [author, *readers], by_number=False)

    def add_newsletter(self) -> Newsletter:
        """A newsletter."""
        return Newsletter(self, Jid(f"1203631{self._next():011}", "newsletter"))

    def now(self) -> int:
        """The time that stanzas carry: seconds since 1970."""
        return int(self.clock())

    def next_id(self) -> str:
        """A new stanza id."""
        return f"TEST{self._next():016X}"

    def _next(self) -> int:
        self._number += 1
        return self._number

    def is_new(self, account: Account, ident: str) -> bool:
        """Whether this is the first frame of the account with this id; the next one is not."""
        if (account, ident) in self._seen:
            return False
        self._seen.add((account, ident))
        return True

    def unlinked(self) -> list[Connection]:
        """The connections of devices to be linked."""
        return [connection for connection in self._connections if connection.candidate is not None]

    # --- connections --------------------------------------------------------------------------

    async def _serve(self, socket: WebSocket) -> None:
        connection = await Connection.accept(socket, self._authority, self.codes)
        self._connections.add(connection)
        try:
            if connection.candidate is not None:
                await self._pair(connection)
            else:
                await self._log_in(connection)
        finally:
            self._connections.discard(connection)
            connection.close()
            self.news.notify()

    async def _pair(self, connection: Connection) -> None:
        """Offer references for QR codes, and wait until a phone has scanned one.

        See docs/internals/whatsapp-protocol.md#pairing-by-qr-code.
        """
        if self.pairing_failure is not None:
            await self._refuse(connection, self.pairing_failure)
            return
        refs = [node("ref", ref.encode()) for ref in connection.refs]
        offer = node("pair-device", *refs)
        connection.send(node("iq", offer, from_=SERVER, type_="set", id=self.next_id()))
        async for stanza in connection.stanzas():
            if stanza.get("type") == "error":
                raise ValueError(f"the device refuses to be linked: {stanza}")
            if stanza.child("pair-device-sign") is not None:
                connection.send(node("stream:error", code=515))  # it reconnects and logs in
            elif stanza.tag == "iq" and stanza.get("type") in ("get", "set"):
                connection.send(linking.answer(connection, stanza))
                self.news.notify()

    async def _log_in(self, connection: Connection) -> None:
        account = self.account(Jid(connection.username))
        found = Failure(401) if account is None else account.may_log_in(connection)
        if isinstance(found, Failure):
            await self._refuse(connection, found)
            return
        try:
            found.log_in(connection)
            found.account.logins += 1
            self.news.notify()
            await self._talk(found, connection)
        finally:
            found.logged_off(connection)

    async def _refuse(self, connection: Connection, failure: Failure) -> None:
        connection.end(failure.as_node())
        async for _ in connection.stanzas():
            pass

    async def _talk(self, device: Device, connection: Connection) -> None:
        async for stanza in connection.stanzas():
            if device.account.silent:
                device.account.unheard.append(stanza)
                self.news.notify()
                continue
            if device.connection is not connection:
                continue  # it was replaced, and has not read that yet
            try:
                stanzas.handle(self, device, stanza)
            except ConnectionError:
                return
            except Exception as error:
                self.failed(error)
