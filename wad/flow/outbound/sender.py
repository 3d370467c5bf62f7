"""The sender: sends one account's entries of the outbox, while the lease is held.

One message per chat at a time, which keeps its order; chats take turns (`store.next_entry`), and a chat whose message
is refused waits alone.  The library sends one message after the other, so there is one lane for them; files are
uploaded in separate lanes, so that an upload that hangs delays only its own chat.  A message during which the worker
died is sent while nothing else is, so that no other message is suspected.

An entry is claimed (with a new secret, saved) before the engine is called, and settled with the result; `core.outbox`
has the rules.  Whatever happens in between, nothing stays in `sending`: an entry that this sender is not sending is
settled from its traces in the session's database, or from its remembered result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from wad.core.connection import State
from wad.core.errors import (
    Conflict,
    Fenced,
    NotFound,
    NotOnWhatsApp,
    StateUnwritable,
    TimedOut,
    Unavailable,
    WadError,
)
from wad.core.jid import Jid
from wad.core.message import MessageStatus
from wad.core.outbox import (
    Claim,
    Claimed,
    Entry,
    NotSent,
    Outcome,
    Refused,
    Sent,
    Unknown,
    given_up,
)
from wad.core.outgoing import Attachment
from wad.core.outgoing_rules import check
from wad.core.send_result import SendResult
from wad.engine.port import Engine, Worker
from wad.flow.accounts.account import Account
from wad.flow.outbound.numbers import Numbers
from wad.flow.outbound.refusals import Refusals
from wad.lib.clock import Clock
from wad.lib.loops import Loop, Loops, shown
from wad.store import Store

log = logging.getLogger(__name__)

SECRET_BYTES: Final = 32
"""Like WhatsApp's own message secrets (docs/internals/library.md#ids-and-secrets)."""
RETRY: Final = 2.0  # seconds before the next attempt after "not sent"
CHECK_INTERVAL: Final = 30.0  # seconds after which the outbox is checked even without a wake-up
MAX_PAUSE: Final = 30.0  # seconds between two attempts while the store fails
FILES: Final = 2
"""Files that are uploaded at once; a worker handles four requests at a time."""
_BATCH: Final = 1000  # stranded entries per check
_MAX_PASSED: Final = 64
"""Chats that wait for a lane or for the check of their number, while further ones are looked for."""
_SEND: Final = "messages.send"  # the operation, as the log's field names it
_ALL: Final = (Unavailable, StateUnwritable, Fenced, TimedOut)
"""Errors of a claim that are unrelated to its message: the next one would meet the same."""

Settle = Callable[[str, Outcome], Awaitable[Entry]]


@dataclass(frozen=True, slots=True)
class Tools:
    """The dependencies that all senders share.

    `outcomes`: results that could not be written yet, by entry and secret; they outlive a leadership term.
    """

    store: Store
    engine: Engine
    clock: Clock
    loops: Loops
    holder: str
    draw: Callable[[int], bytes]
    settle: Settle
    numbers: Numbers
    outcomes: dict[tuple[str, bytes], Outcome]


class Sender:
    """The send loop of one account, for one epoch."""

    def __init__(self, account: Account, tools: Tools, epoch: int) -> None:
        self._account = account
        self._tools = tools
        self._epoch = epoch
        self._refusals = Refusals(tools.clock, RETRY)
        self._wake = asyncio.Event()
        self._check_stranded = True
        self._closing = False
        self._in_flight: dict[str, tuple[Entry, asyncio.Task[None]]] = {}
        self._engaged: dict[str, Entry] = {}  # those of them that the engine has now
        self._passed: set[str] = set()  # chats whose next message waits for a lane
        self._checking = False  # whether a number is being asked for
        self._unanswered: set[str] = set()  # entries whose claim may have been written
        self._changes = 0
        self._suspect_waits = False
        self._quiet_until = 0.0
        self._failed: Exception | None = None

    # --- notifications --------------------------------------------------------------------------

    def wake(self) -> None:
        """Call it when an entry was queued."""
        self._wake.set()

    def connected(self) -> None:
        """Call it when the account has logged in."""
        self._quiet_until = 0.0
        self._wake.set()

    def check_stranded(self) -> None:
        """Call it when entries may be stranded in `sending`."""
        self._check_stranded = True
        self._wake.set()

    async def close(self, timeout: float) -> None:
        """Start no more sends; pending ones have `timeout` seconds, and the crash rule settles the rest."""
        self._closing = True
        self._wake.set()
        tasks = [task for _, task in self._in_flight.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the loop -------------------------------------------------------------------------------

    async def run(self, loop: Loop) -> None:
        """Run until cancelled.  Raises the store's errors: the supervisor waits and starts it again."""
        try:
            while not self._closing:
                loop.turn()
                self._wake.clear()
                turned = self._tools.clock.monotonic()
                await self._turn()
                self._account.unsent = ""
                loop.progress()
                await self._sleep(turned)
        except asyncio.CancelledError:
            self._account.unsent = ""
            raise
        except Exception as error:
            self._account.unsent = f"cannot send: {shown(error)}"
            raise

    async def _turn(self) -> None:
        if self._failed is not None:
            error, self._failed = self._failed, None
            raise error
        if self._check_stranded:
            await self._settle_all_stranded()
        await self._start_sends()

    async def _sleep(self, turned: float) -> None:
        """Sleep until woken, or until a pause ends that had not ended when the turn began, at `turned`."""
        due = [
            self._refusals.due(turned),
            self._quiet_until if self._quiet_until > turned else None,
        ]
        now = self._tools.clock.monotonic()
        pause = min([CHECK_INTERVAL, *(max(0.0, at - now) for at in due if at is not None)])
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            self._check_stranded = self._check_stranded or pause == CHECK_INTERVAL

    # --- the next entry -------------------------------------------------------------------------

    def _ready(self) -> Worker | None:
        """The worker, if a message may be sent now."""
        account = self._account
        if self._closing or account.status.state is not State.CONNECTED:
            return None
        if self._tools.clock.monotonic() < self._quiet_until:
            return None
        return account.worker

    async def _start_sends(self) -> None:
        # Stranded entries are settled first: a later message of their chat must not overtake them.
        while (worker := self._ready()) is not None and not self._check_stranded:
            if any(entry.deaths for entry in self._engaged.values()):
                return  # a suspect is sent alone
            busy, before = {*self._in_flight, *self._passed, *self._refusals.waiting}, self._changes
            entry = await self._tools.store.next_entry(self._account.id, but=busy)
            if entry is None or worker is not self._ready():
                return
            is_open = await self._tools.numbers.is_open(self._account, Jid.parse(entry.to))
            if before != self._changes:
                continue  # a lane was freed meanwhile, and another chat may be next
            if is_open:
                if len(self._passed) >= _MAX_PASSED:
                    return
                self._check_number(entry)
            elif self._has_room(entry):
                self._start_send(worker, entry)
            elif entry.deaths or _is_file(entry):
                self._passed.add(entry.thread)
            else:
                return

    def _check_number(self, entry: Entry) -> None:
        """Ask for the number of an entry, beside the lanes and one at a time; its chat waits."""
        if self._checking:
            self._passed.add(entry.thread)
            return
        self._checking = True
        task = asyncio.create_task(self._ask_number(entry), name=f"number of {entry.id}")
        self._in_flight[entry.thread] = (entry, task)
        task.add_done_callback(partial(self._done, entry))

    async def _ask_number(self, entry: Entry) -> None:
        """Then the entry is open for sending, has another address, or has failed."""
        try:
            found = await self._tools.numbers.to_send(self._account, Jid.parse(entry.to))
            if not found:  # the worker has ended meanwhile
                self._quiet_until = self._tools.clock.monotonic() + RETRY
        except NotOnWhatsApp as error:
            await self._refuse(entry, Refused(error.code, str(error)))
        except WadError as error:
            self._failed = error
        finally:
            self._checking = False

    def _has_room(self, entry: Entry) -> bool:
        """Whether a lane is free for it; a suspect needs all lanes, and no file starts before it."""
        if entry.deaths:
            self._suspect_waits = bool(self._engaged)
            return not self._engaged
        of_its_kind = [one for one in self._engaged.values() if _is_file(one) == _is_file(entry)]
        if _is_file(entry):
            return len(of_its_kind) < FILES and not self._suspect_waits
        return not of_its_kind

    def _start_send(self, worker: Worker, entry: Entry) -> None:
        task = asyncio.create_task(self._send(worker, entry), name=f"send {entry.id}")
        self._in_flight[entry.thread] = (entry, task)
        self._engaged[entry.thread] = entry
        task.add_done_callback(partial(self._done, entry))

    def _done(self, entry: Entry, task: asyncio.Task[None]) -> None:
        self._in_flight.pop(entry.thread, None)
        if entry.id in self._unanswered:
            # Only now: pending entries are not settled as stranded.
            self._unanswered.discard(entry.id)
            self._check_stranded = True
        self._disengage(entry)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug in wad; the entry may be in `sending`.
            self._tools.loops.fault("sending", error, account=self._account.id)
            self._pause_chat(entry)
            self._check_stranded = True

    def _disengage(self, entry: Entry) -> None:
        """The engine has finished with it: its lane is free, while its chat may still wait for the store."""
        self._engaged.pop(entry.thread, None)
        self._passed.clear()
        self._changes += 1
        if not self._engaged:
            self._suspect_waits = False
        self._wake.set()

    # --- one message ----------------------------------------------------------------------------

    async def _send(self, worker: Worker, entry: Entry) -> None:
        claimed = await self._claim(entry)
        if claimed is None:
            return
        result = await self._call_engine(worker, claimed)
        if not isinstance(result, NotSent):
            self._refusals.forget(claimed)
        outcome = self._outcome_of(claimed, result) if isinstance(result, NotSent) else result
        self._disengage(entry)
        await self._write_outcome(claimed, outcome)
        if isinstance(outcome, Sent):
            await self._tools.numbers.note_sent(self._account, Jid.parse(claimed.to), outcome.lid)
        _count(self._account, outcome)
        if isinstance(outcome, Refused):
            self._log_refusal(claimed, outcome)

    async def _claim(self, entry: Entry) -> Entry | None:
        """The claimed entry; None if it is not to be sent now."""
        try:
            # An edit or a revoke may have waited for too long.
            check(entry.content, Jid.parse(entry.to), self._tools.clock.wall_ms())
        except Exception as error:
            code = error.code if isinstance(error, WadError) else "cannot_be_sent"
            await self._refuse(entry, Refused(code, shown(error)))
            return None
        by = Claim(self._tools.holder, self._epoch, self._account.session_mark)
        claim = Claimed(by, self._tools.draw(SECRET_BYTES))
        try:
            return await self._tools.settle(entry.id, claim)
        except _ALL as error:
            self._failed = error
            self._unanswered.add(entry.id)
        except (Conflict, NotFound) as error:  # it was settled meanwhile
            log.info("%s", error, extra={"account": entry.account})
            self._pause_chat(entry)
            self._unanswered.add(entry.id)
        except Exception as error:
            self._unanswered.add(entry.id)
            log.warning(
                "cannot claim %s: %s", entry.id, shown(error), extra={"account": entry.account}
            )
            if self._pause_chat(entry):
                await self._refuse(entry, Refused("cannot_be_sent", shown(error)))
        return None

    async def _refuse(self, entry: Entry, refused: Refused) -> None:
        """Settle an entry that is not sent at all."""
        self._disengage(entry)
        await self._write_outcome(entry, refused)
        self._refusals.forget(entry)
        _count(self._account, refused)
        self._log_refusal(entry, refused)

    def _log_refusal(self, entry: Entry, refused: Refused) -> None:
        fields = {"account": self._account.id, "operation": _SEND, "code": refused.code}
        log.warning("message %s failed: %s", entry.id, refused.code, extra=fields)

    async def _call_engine(self, worker: Worker, entry: Entry) -> SendResult:
        try:
            return await worker.send(
                Jid.parse(entry.to), entry.content, entry.secret, entry.created_ms
            )
        except Exception as error:
            # A bug in wad.  The message may have been sent, and must not stay in `sending`.
            self._tools.loops.fault("sending", error, account=entry.account)
            return Unknown("", f"internal error while it was sent: {type(error).__name__}")

    def _outcome_of(self, entry: Entry, result: NotSent) -> NotSent | Refused:
        """The outcome of a message that was not sent: another attempt, or a refusal."""
        if (end := given_up(entry, result)) is not None:
            return end
        if result.unrelated or result.died or self._account.status.state is not State.CONNECTED:
            self._quiet_until = self._tools.clock.monotonic() + RETRY
            return result
        return Refused("not_sent", result.why) if self._refusals.note(entry) else result

    def _pause_chat(self, entry: Entry) -> bool:
        """Make its chat wait; returns whether the limit of attempts is reached."""
        return self._refusals.note(entry)

    async def _write_outcome(self, entry: Entry, outcome: Outcome) -> None:
        """Write the outcome, however long the store takes; its chat waits meanwhile."""
        key = (entry.id, entry.secret)
        self._tools.outcomes[key] = outcome

        async def write(loop: Loop) -> None:
            loop.turn()
            try:
                await self._tools.settle(entry.id, outcome)
            except (Conflict, NotFound) as error:
                # Its receipt or echo was recorded first: that is better evidence.
                log.info("%s", error, extra={"account": entry.account})
            except (Fenced, TimedOut) as error:
                # The lease is gone; the next term settles it from `outcomes`.
                log.warning("%s stays open: %s", entry.id, error, extra={"account": entry.account})
                return
            self._tools.outcomes.pop(key, None)

        await self._tools.loops.keep("outcome", write, account=entry.account, cap=MAX_PAUSE)

    # --- stranded entries -----------------------------------------------------------------------

    async def _settle_all_stranded(self) -> None:
        """Settle entries in `sending` that this sender is not sending."""
        ours = {entry.id for entry, _ in self._in_flight.values()}
        self._check_stranded = False
        try:
            stranded = await self._tools.store.entries(
                self._account.id, states=[MessageStatus.SENDING], limit=_BATCH
            )
            for entry in stranded:
                if entry.id not in ours:
                    await self._settle_stranded(entry)
        except BaseException:
            self._check_stranded = True
            raise
        if len(stranded) == _BATCH:
            self.check_stranded()

    async def _settle_stranded(self, entry: Entry) -> None:
        """By the remembered outcome, otherwise by the crash rule: its traces in the session's database."""
        outcome = self._tools.outcomes.get((entry.id, entry.secret))
        if outcome is None:
            outcome = await self._crash_rule(entry)
        with suppress(Conflict, NotFound):
            await self._tools.settle(entry.id, outcome)
        self._tools.outcomes.pop((entry.id, entry.secret), None)

    async def _crash_rule(self, entry: Entry) -> Outcome:
        why = "the process that was sending it ended"
        try:
            session = entry.claim.session if entry.claim is not None else ""
            found = await asyncio.to_thread(
                self._tools.engine.sent_as, self._account.account_dir, entry.secret, session
            )
        except Unavailable:
            raise
        except WadError as error:
            # A session that is damaged, gone or another one proves nothing, now or later.
            return Unknown("", f"{why}; {error}")
        ours = entry.claim is not None and entry.claim.holder == self._tools.holder
        # This machine's session has no record of what another machine sent.
        return NotSent(why) if found is None and ours else Unknown(found or "", why)


def _is_file(entry: Entry) -> bool:
    return isinstance(entry.content, Attachment)


def _count(account: Account, outcome: Outcome) -> None:
    match outcome:
        case Sent(_, at_ms):
            account.sent += 1
            account.sent_lately.note()
            account.inbound.update_newest(at_ms)
        case Refused():
            account.refused += 1
            account.refused_lately.note()
