"""An engine without WhatsApp, for fast tests and for trying wad out: `wad --engine simulator`.

Each account pairs as soon as its first QR code has been shown for a moment, logs in, and everything sent to it is
"delivered".  A worker is an object in the daemon; what it receives goes through the same spool as the real one's.
It never stands in where the real engine can run.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from wad.core import connection
from wad.core import event as words
from wad.core.errors import NotFound, NotSupported
from wad.core.event import (
    ChatReceived,
    Content,
    Event,
    HistoryReceived,
    MessageKind,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
    Told,
)
from wad.core.history import KnownMessage
from wad.core.jid import Jid
from wad.core.outbox import NotSent, Sent
from wad.core.outgoing import GroupRole, Outgoing
from wad.core.send_result import SendResult
from wad.engine.baileys.translation import Carried
from wad.engine.port import Confinement, Identity, Receipts, Report, Spooled
from wad.lib.clock import Clock, SystemClock
from wad.lib.files import write_file
from wad.lib.procfs import Usage
from wad.state.account_dir import AccountDir
from wad.state.spool import Spool

_SESSION_MARK = b"a simulated session\n"


def mark_of(home: AccountDir) -> str:
    """Which simulated session it is: each pairing makes another one."""
    try:
        return home.session_db.read_bytes().hex()[-16:]
    except FileNotFoundError:
        return ""


class SimulatorEngine:
    """Makes simulated workers.  `workers` holds the running ones, for tests to play with."""

    receipts: Receipts | None = Receipts.AFTER_STORE

    def __init__(self, *, auto_pair: bool = True, clock: Clock | None = None) -> None:
        self._auto_pair = auto_pair
        self.clock = clock or SystemClock()
        self._numbers = itertools.count(1)
        self.workers: dict[str, SimulatedWorker] = {}
        self.left: dict[bytes, str] = {}

    async def launch(
        self, home: AccountDir, report: Callable[[Report], None], permit: float
    ) -> SimulatedWorker:
        """Start a simulated worker."""
        worker = SimulatedWorker(self, home, report)
        self.workers[home.id] = worker
        if self.is_paired(home):
            asyncio.get_running_loop().call_soon(worker.log_in)
        else:
            asyncio.get_running_loop().call_soon(worker.show_qr)
            if self._auto_pair:
                asyncio.get_running_loop().call_later(0.05, worker.scan)
        return worker

    def is_paired(self, home: AccountDir) -> bool:
        """Whether the simulated session lies on the disk."""
        return home.session_db.exists()

    def copy_session(self, home: AccountDir) -> bytes:
        """The simulated session."""
        return home.session_db.read_bytes()

    def put_session(self, home: AccountDir, session: bytes) -> None:
        """As it was read."""
        home.write_session(session)

    async def write_session(self, file: Path, session: Carried) -> None:
        """A simulated session has no keys: whoever it was, it is paired."""
        write_file(file, _SESSION_MARK)

    async def translate(self, kind: str, raw: bytes) -> bytes | None:
        """What is simulated has no bytes of a library."""
        raise NotSupported("the simulator translates nothing")

    def sent_as(self, home: AccountDir, secret: bytes, mark: str) -> str | None:
        """Under which id an attempt left."""
        if secret not in self.left and mark and mark != mark_of(home):
            raise NotFound(
                "the account was paired anew since, and the new session has no trace of it"
            )
        return self.left.get(secret)

    def next_id(self) -> str:
        """A fresh WhatsApp id."""
        return f"SIM{next(self._numbers):08d}"


class SimulatedWorker:
    """One simulated account.  The methods below `# what a test does` play WhatsApp and the phone."""

    pid = None
    receipts: Receipts | None = Receipts.AFTER_STORE
    mute: str | None = ""
    usage: Usage | None = None
    confinement: Confinement | None = None
    is_outdated = False
    flood = ""

    def __init__(
        self, engine: SimulatorEngine, home: AccountDir, report: Callable[[Report], None]
    ) -> None:
        self._engine = engine
        self._home = home
        self._report = report
        self._spool = Spool.open(home.spool_db)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.sent: list[tuple[Jid, Outgoing, str]] = []
        self.result: SendResult | None = None
        self.past: list[MessageReceived] = []
        self.asked: list[KnownMessage] = []
        self.answers = True
        self.standings: dict[Jid, GroupRole] = {}
        self.permitted = 0.0

    def permit(self, until: float) -> None:
        """Remembered for tests."""
        self.permitted = until

    async def send(self, to: Jid, content: Outgoing, secret: bytes, asked_ms: int) -> SendResult:
        """ "Send" a content: it gets an id and a delivery receipt."""
        if self.result is not None:
            return self.result
        if self.ended.done():
            return NotSent("the worker is gone")
        wa_id = self._engine.next_id()
        self._engine.left[secret] = wa_id
        self.sent.append((to, content, wa_id))
        at_ms = self._engine.clock.wall_ms()
        self._append(ReceiptReceived((wa_id,), to, to, ReceiptMark.DELIVERED, at_ms), wa_id, at_ms)
        return Sent(wa_id, at_ms)

    async def on_whatsapp(self, phones: Collection[str]) -> dict[str, bool]:
        """Everybody is on the simulated WhatsApp."""
        return dict.fromkeys(phones, True)

    async def standing(self, group: Jid) -> GroupRole:
        """A member, unless a test says otherwise."""
        return self.standings.get(group, GroupRole.MEMBER)

    async def ask_history(self, oldest: KnownMessage, count: int) -> None:
        """The phone tells what a test has put into `past`, and at once."""
        self.asked.append(oldest)
        if self.answers:
            before = [m for m in self.past if m.chat == oldest.chat and m.at_ms < oldest.at_ms]
            before.sort(key=lambda m: m.at_ms)
            told: list[Told] = [ChatReceived(oldest.chat), *before[-count:]]
            self._append(HistoryReceived(tuple(told), asked=True), "", oldest.at_ms)

    async def ask_messages(self, wanted: Sequence[KnownMessage]) -> None:
        """The phone tells those that it has in `past`."""
        self.asked += wanted
        idents = {one.wa_id for one in wanted}
        for message in [m for m in self.past if m.id in idents and self.answers]:
            self._append(message, message.id, message.at_ms)

    async def log_out(self) -> None:
        """Forget the device."""
        self._home.session_db.unlink(missing_ok=True)

    async def stop(self, timeout: float) -> None:
        """End."""
        self.crash("stopped")

    # --- what a test does ---------------------------------------------------------------------

    def show_qr(self) -> None:
        """WhatsApp gives a QR code."""
        if not self.ended.done():
            self._report(connection.QrShown(f"2@simulated-{self._home.id},noise,identity,adv,6"))

    def scan(self) -> None:
        """The phone scans it."""
        if not self.ended.done():
            self._home.session_db.write_bytes(_SESSION_MARK + os.urandom(8))
            self._report(connection.Paired())
            self.log_in()

    def log_in(self) -> None:
        """WhatsApp lets it in."""
        if not self.ended.done():
            number = self._home.card().phone.lstrip("+") or "15550009999"
            jid, lid = f"{number}:1@s.whatsapp.net", f"9{number}:1@lid"
            self._report(Identity(jid, lid, self._home.id, mark_of(self._home)))
            self._report(connection.Connected())

    def receive(self, sender: Jid, text: str, *, wa_id: str = "", at_ms: int = 0) -> str:
        """Somebody writes; gives the message's id."""
        wa_id = wa_id or self._engine.next_id()
        at_ms = at_ms or self._engine.clock.wall_ms()
        content = Content(MessageKind.TEXT, text)
        self._append(MessageReceived(wa_id, sender, sender, at_ms, content), wa_id, at_ms)
        return wa_id

    def crash(self, why: str = "the simulated worker crashed") -> None:
        """The worker is gone."""
        if not self.ended.done():
            self._spool.close()
            self._engine.workers.pop(self._home.id, None)
            self.ended.set_result(why)

    def _append(self, event: Event, wa_id: str, at_ms: int) -> None:
        seq = self._spool.append(
            received_ms=at_ms,
            kind=type(event).__name__.lower(),
            wa_id=wa_id,
            raw=b"",
            event=words.encode(event),
        )
        self._report(Spooled(seq))
