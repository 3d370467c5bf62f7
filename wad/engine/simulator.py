"""A simulated engine without WhatsApp, for fast tests and for trying wad: `wad --engine simulator`.

Each account pairs shortly after its first QR code, logs in, and everything that is sent to it is "delivered".  A worker
is an object in the daemon; received events go through the same spool as with the real engine.
It never replaces the real engine where that can run.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from wad.core import connection
from wad.core import event as event_codec
from wad.core.errors import EngineFailure, NotFound, NotSupported
from wad.core.event import (
    ChatReceived,
    Content,
    Event,
    HistoryReceived,
    MessageKind,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
    SingleEvent,
)
from wad.core.history import KnownMessage
from wad.core.jid import Jid
from wad.core.outbox import NotSent, Sent
from wad.core.outgoing import GroupRole, Outgoing
from wad.core.send_result import SendResult
from wad.engine.baileys.translation import Carried
from wad.engine.port import Confinement, FoundNumber, Identity, Receipts, Report, Spooled
from wad.lib.clock import Clock, SystemClock
from wad.lib.files import write_file
from wad.lib.procfs import Usage
from wad.state.account_dir import AccountDir
from wad.state.spool import Spool

_SESSION_MARK = b"a simulated session\n"


def mark_of(account_dir: AccountDir) -> str:
    """The mark of a simulated session: each pairing creates another one."""
    try:
        return account_dir.session_db.read_bytes().hex()[-16:]
    except FileNotFoundError:
        return ""


class SimulatorEngine:
    """Starts simulated workers.  `workers` holds the running ones, for tests to control."""

    receipts: Receipts | None = Receipts.AFTER_STORE

    def __init__(self, *, auto_pair: bool = True, clock: Clock | None = None) -> None:
        self._auto_pair = auto_pair
        self.clock = clock or SystemClock()
        self._numbers = itertools.count(1)
        self.workers: dict[str, SimulatedWorker] = {}
        self.left: dict[bytes, str] = {}

    async def launch(
        self, account_dir: AccountDir, report: Callable[[Report], None], permit: float
    ) -> SimulatedWorker:
        """Start a simulated worker."""
        worker = SimulatedWorker(self, account_dir, report)
        self.workers[account_dir.id] = worker
        if self.is_paired(account_dir):
            asyncio.get_running_loop().call_soon(worker.log_in)
        else:
            asyncio.get_running_loop().call_soon(worker.show_qr)
            if self._auto_pair:
                asyncio.get_running_loop().call_later(0.05, worker.scan)
        return worker

    def is_paired(self, account_dir: AccountDir) -> bool:
        """Whether there is a simulated session on the disk."""
        return account_dir.session_db.exists()

    def copy_session(self, account_dir: AccountDir) -> bytes:
        """The simulated session."""
        return account_dir.session_db.read_bytes()

    def put_session(self, account_dir: AccountDir, session: bytes) -> None:
        """Write it unchanged."""
        account_dir.write_session(session)

    async def write_session(self, file: Path, session: Carried) -> None:
        """Write a simulated session, which has no keys: the account is paired."""
        write_file(file, _SESSION_MARK)

    async def translate(self, kind: str, raw: bytes) -> bytes | None:
        """Not supported: simulated events have no bytes of the library."""
        raise NotSupported("the simulator translates nothing")

    def sent_as(self, account_dir: AccountDir, secret: bytes, mark: str) -> str | None:
        """The id of a sent attempt."""
        if secret not in self.left and mark and mark != mark_of(account_dir):
            raise NotFound(
                "the account was paired again since, and the new session has no record of it"
            )
        return self.left.get(secret)

    def next_id(self) -> str:
        """A new WhatsApp id."""
        return f"SIM{next(self._numbers):08d}"


class SimulatedWorker:
    """One simulated account.  The methods below `# --- for tests` simulate WhatsApp and the phone."""

    pid = None
    receipts: Receipts | None = Receipts.AFTER_STORE
    phone_requests_unsupported: str | None = ""
    usage: Usage | None = None
    confinement: Confinement | None = None
    is_outdated = False
    dropped_output = ""

    def __init__(
        self, engine: SimulatorEngine, account_dir: AccountDir, report: Callable[[Report], None]
    ) -> None:
        self._engine = engine
        self._account_dir = account_dir
        self._report = report
        self._spool = Spool.open(account_dir.spool_db)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.sent: list[tuple[Jid, Outgoing, str]] = []
        self.result: SendResult | None = None
        self.history: list[MessageReceived] = []
        self.asked: list[KnownMessage] = []
        self.answers = True
        self.group_roles: dict[Jid, GroupRole] = {}
        self.numbers: dict[str, FoundNumber | None] = {}
        self.asked_numbers: list[str] = []
        self.permitted = 0.0
        self.code_refusal = ""

    def permit(self, until: float) -> None:
        """Record the permission for tests."""
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

    async def find_number(self, phone: str) -> FoundNumber | None:
        """All numbers are on the simulated WhatsApp, unless a test has another answer."""
        self.asked_numbers.append(phone)
        return self.numbers.get(phone, FoundNumber(None, Jid.of_phone(phone)))

    async def group_role(self, group: Jid) -> GroupRole:
        """A member, unless a test sets another role."""
        return self.group_roles.get(group, GroupRole.MEMBER)

    async def ask_history(self, oldest: KnownMessage, count: int) -> None:
        """The phone sends the messages that a test has put into `history`, at once."""
        self.asked.append(oldest)
        if self.answers:
            before = [m for m in self.history if m.chat == oldest.chat and m.at_ms < oldest.at_ms]
            before.sort(key=lambda m: m.at_ms)
            events: list[SingleEvent] = [ChatReceived(oldest.chat), *before[-count:]]
            self._append(HistoryReceived(tuple(events), asked=True), "", oldest.at_ms)

    async def ask_messages(self, wanted: Sequence[KnownMessage]) -> None:
        """The phone sends those messages that it has in `history`."""
        self.asked += wanted
        idents = {one.wa_id for one in wanted}
        for message in [m for m in self.history if m.id in idents and self.answers]:
            self._append(message, message.id, message.at_ms)

    async def pairing_code(self, phone: str) -> str:
        """A code; the simulated phone scans the QR code instead."""
        if self.code_refusal:
            raise EngineFailure(self.code_refusal)
        return "SIMU-1ATE"

    async def log_out(self) -> None:
        """Forget the device."""
        self._account_dir.session_db.unlink(missing_ok=True)

    async def stop(self, timeout: float) -> None:
        """End."""
        self.crash("stopped")

    # --- for tests ------------------------------------------------------------------------------

    def show_qr(self) -> None:
        """WhatsApp sends a QR code."""
        if not self.ended.done():
            self._report(
                connection.QrShown(f"2@simulated-{self._account_dir.id},noise,identity,adv,6")
            )

    def scan(self) -> None:
        """The phone scans it."""
        if not self.ended.done():
            self._account_dir.session_db.write_bytes(_SESSION_MARK + os.urandom(8))
            self._report(connection.Paired())
            self.log_in()

    def log_in(self) -> None:
        """WhatsApp accepts the login."""
        if not self.ended.done():
            number = self._account_dir.card().phone.lstrip("+") or "15550009999"
            jid, lid = f"{number}:1@s.whatsapp.net", f"9{number}:1@lid"
            self._report(Identity(jid, lid, self._account_dir.id, mark_of(self._account_dir)))
            self._report(connection.Connected())

    def receive(self, sender: Jid, text: str, *, wa_id: str = "", at_ms: int = 0) -> str:
        """A message arrives; returns its id."""
        wa_id = wa_id or self._engine.next_id()
        at_ms = at_ms or self._engine.clock.wall_ms()
        content = Content(MessageKind.TEXT, text)
        self._append(MessageReceived(wa_id, sender, sender, at_ms, content), wa_id, at_ms)
        return wa_id

    def crash(self, why: str = "the simulated worker crashed") -> None:
        """The worker ends."""
        if not self.ended.done():
            self._spool.close()
            self._engine.workers.pop(self._account_dir.id, None)
            self.ended.set_result(why)

    def _append(self, event: Event, wa_id: str, at_ms: int) -> None:
        seq = self._spool.append(
            received_ms=at_ms,
            kind=type(event).__name__.lower(),
            wa_id=wa_id,
            raw=b"",
            event=event_codec.encode(event),
        )
        self._report(Spooled(seq))
