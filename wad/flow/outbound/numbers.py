"""The address of a phone number at WhatsApp, requested once before the first message to it.

WhatsApp writes some numbers in another way than people do (Brazil, Mexico, Argentina), and answers come from its own
spelling.  So a number is asked for before anything is sent to it, unless its person is known (`store.recipient`).  What
WhatsApp answers is recorded: the LID, its number, and the spelling that was asked for.  From then on the number is not
asked for again, and recording joins the threads of both spellings and addresses what is queued for the other one.

- The check happens before an entry is claimed, that is before an attempt has its secret, and what it finds is recorded
  in one transaction.  A crash before that leaves the entry as it was, and the number is asked for again; a crash after
  that leaves an entry with the right address.  Nothing is sent in between.
- WhatsApp limits these questions and bans for many of them.  One is asked at a time for each account; a caller that
  queues messages causes a few at once and one a second in the long run, the others are asked for when they are sent,
  where the question replaces the library's own.  A number that is not there is remembered for an hour.
- A question that is not answered blocks nothing: a message is queued after 3 s.  When it is sent, its chat alone waits,
  10 s at most.  Then it is sent to the number as it was given, and for five minutes nothing is asked.  The library's
  answer to the message names the person, which joins the threads then.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from wad.core.change import Change, PutAlias, PutNumber
from wad.core.connection import State
from wad.core.errors import NotOnWhatsApp, WadError
from wad.core.jid import Jid, JidKind
from wad.core.rate import Rate
from wad.engine.port import FoundNumber, Worker
from wad.flow.accounts.account import Account
from wad.lib.clock import Clock
from wad.lib.loops import Loops
from wad.store import Store

log = logging.getLogger(__name__)

QUEUE_TIMEOUT: Final = 3.0
"""Seconds that the queueing of a message waits for an answer."""
SEND_TIMEOUT: Final = 10.0
"""Seconds that a chat waits for an answer before its message is sent to the number as it was given."""
_BURST: Final = 10.0  # questions of callers at once
_PER_SECOND: Final = 1.0  # of them in the long run
_ANSWER_S: Final = 3600.0  # seconds for which an answer is remembered
_PAUSE_S: Final = 300.0  # seconds without questions after one that was not answered
_MAX_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Answer:
    """The address to send to, None if the number is not on WhatsApp; valid until a monotonic time."""

    to: Jid | None
    until: float


@dataclass(slots=True)
class _Question:
    """The question that WhatsApp is asked now, since a monotonic time."""

    task: asyncio.Task[None]
    since: float
    failed: bool = False


class Numbers:
    """Asks WhatsApp for numbers, and remembers the answers that the store does not keep."""

    def __init__(self, store: Store, clock: Clock, loops: Loops) -> None:
        self._store = store
        self._clock = clock
        self._loops = loops
        self._answers: dict[tuple[str, str], _Answer] = {}
        self._asking: dict[str, _Question] = {}
        self._rates: dict[str, Rate] = {}
        self._paused: dict[str, float] = {}

    async def to_queue(self, account: Account, to: Jid) -> Jid:
        """The address to which a new message to `to` is queued: `to` itself if that cannot be determined now.

        Raises NotOnWhatsApp.
        """
        found = await self._find(account, to, QUEUE_TIMEOUT, limited=True)
        return to if found is None else found

    async def is_open(self, account: Account, to: Jid) -> bool:
        """Whether the number has to be asked for before a queued message is sent to it.

        Not if it was asked for recently, with or without an answer.
        """
        if to.kind is not JidKind.PN or self._is_paused(account):
            return False
        answer = self._remembered(account, to)
        if answer is not None and answer.to is not None:
            return False
        recipient = await self._store.recipient(account.id, to)
        if recipient.known and recipient.jid == to:
            self._remember(account, to, to)
        return not recipient.known

    async def to_send(self, account: Account, to: Jid) -> bool:
        """Ask for the number of a queued message; returns whether the account can go on sending.

        If WhatsApp has another address for it, the message is addressed again.  Raises NotOnWhatsApp.
        """
        found = await self._find(account, to, SEND_TIMEOUT, limited=False)
        worker = self._worker(account)
        return found is not None or (worker is not None and not worker.ended.done())

    async def note_sent(self, account: Account, to: Jid, lid: str) -> None:
        """Record that a message to this number was sent to this LID, unless its person is known."""
        if to.kind is not JidKind.PN or not lid or self._remembered(account, to) is not None:
            return
        if not (await self._store.recipient(account.id, to)).known:
            await self._record(account, [PutAlias(lid, str(to))])

    async def close(self) -> None:
        """Cancel the running questions."""
        tasks = [question.task for question in self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._asking.clear()

    # --- the answer -----------------------------------------------------------------------------

    async def _find(
        self, account: Account, to: Jid, timeout: float, *, limited: bool
    ) -> Jid | None:
        """The address to send to; None if it is unknown, and cannot be asked for now."""
        recipient = await self._store.recipient(account.id, to)
        if recipient.known:
            return recipient.jid
        asking: _Question | None = None
        try:
            async with asyncio.timeout(timeout):
                while (answer := self._remembered(account, to)) is None:
                    if (asking := self._asking.get(account.id)) is None:
                        worker = self._worker(account)
                        if worker is None or not self._may_ask(account, limited=limited):
                            return None
                        asking = self._ask(account, worker, to)
                    await asyncio.wait([asking.task])
                    if self._is_paused(account) or asking.failed:
                        return None
        except TimeoutError:
            if asking is not None and asking.since <= self._clock.monotonic() - timeout:
                self._pause(account, f"no answer within {timeout:g} s")
            return None
        if answer.to is None:
            raise _not_there(to, answer.until - _ANSWER_S, self._clock.monotonic())
        return answer.to

    def _ask(self, account: Account, worker: Worker, to: Jid) -> _Question:
        """Ask; the answer is recorded even if nobody waits for it any more."""

        async def ask() -> None:
            try:
                await self._take_answer(account, to, await worker.find_number(to.user))
            except Exception as error:
                question.failed = True
                if not isinstance(error, WadError):
                    self._loops.fault("number check", error, account=account.id)
                if not worker.ended.done():
                    self._pause(account, str(error) or type(error).__name__)
            finally:
                self._asking.pop(account.id, None)

        task = asyncio.create_task(ask(), name="number check")
        question = self._asking[account.id] = _Question(task, self._clock.monotonic())
        return question

    async def _take_answer(self, account: Account, asked: Jid, found: FoundNumber | None) -> None:
        if found is None:
            self._remember(account, asked, None)
            return
        changes: list[Change] = []
        now_ms, number = self._clock.wall_ms(), found.pn or asked
        if found.lid is not None:
            # Without a number from WhatsApp, the one that was asked for counts until another is reported.
            changes.append(PutAlias(str(found.lid), str(number), now_ms if found.pn else 0))
        if number != asked:
            changes.append(PutNumber(str(asked), str(found.lid or number), now_ms, asked=True))
        if changes:
            await self._record(account, changes)
        to = found.pn or found.lid
        assert to is not None
        self._remember(account, asked, to)

    async def _record(self, account: Account, changes: list[Change]) -> None:
        await self._store.record(account.id, changes)
        for change in changes:
            if isinstance(change, PutAlias):
                account.inbound.note_recorded(change)

    # --- what is remembered ---------------------------------------------------------------------

    @staticmethod
    def _worker(account: Account) -> Worker | None:
        return account.worker if account.status.state is State.CONNECTED else None

    def _may_ask(self, account: Account, *, limited: bool) -> bool:
        if self._is_paused(account) or not limited:
            return not self._is_paused(account)
        now = self._clock.monotonic()
        return self._rates.setdefault(account.id, Rate(_BURST, _PER_SECOND, now)).take(now)

    def _is_paused(self, account: Account) -> bool:
        return self._clock.monotonic() < self._paused.get(account.id, 0.0)

    def _pause(self, account: Account, why: str) -> None:
        if self._worker(account) is None:
            return  # its messages wait for the next login, and are asked for then
        self._paused[account.id] = self._clock.monotonic() + _PAUSE_S
        log.warning(
            "cannot ask WhatsApp for a number: %s; messages are sent to numbers as given for %d minutes",
            why, _PAUSE_S // 60, extra={"account": account.id},
        )  # fmt: skip

    def _remembered(self, account: Account, number: Jid) -> _Answer | None:
        answer = self._answers.get((account.id, str(number)))
        return answer if answer and self._clock.monotonic() < answer.until else None

    def _remember(self, account: Account, number: Jid, to: Jid | None) -> None:
        if len(self._answers) >= _MAX_REMEMBERED:
            del self._answers[next(iter(self._answers))]
        until = self._clock.monotonic() + _ANSWER_S
        self._answers[account.id, str(number)] = _Answer(to, until)


def _not_there(number: Jid, asked: float, now: float) -> NotOnWhatsApp:
    minutes = int((now - asked) / 60)
    when = f"{minutes} minutes ago; it is asked again within an hour" if minutes else "just now"
    return NotOnWhatsApp(
        f"+{number.user} is not on WhatsApp",
        hint=f"check the number with its country code; WhatsApp was asked {when}",
    )
