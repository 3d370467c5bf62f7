"""The leader: holds the lease, and runs the leadership term, inside which everything exclusive lives.

`core.lease` decides, this module acts: it reads and writes the record, reports each renewal, and when the permission to
act ends, it leaves the term, whose nesting stops outbound first, then the workers, and only then releases the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from wad.core import lease
from wad.core.errors import Conflict, TimedOut, Unavailable, WadError
from wad.core.lease import Act, Held, LeaseTerms, Record, Seen, Tenure
from wad.flow.event_bus import Bus
from wad.flow.leadership.lease_writer import LeaseWriter
from wad.lib.cancellation import uncancellable
from wad.lib.clock import Clock
from wad.lib.loops import Loop, Loops, shown
from wad.store.lease import LeaseRecord

log = logging.getLogger(__name__)

_RETRY: Final = 1.0  # seconds after the record could not be read or written
_RACE: Final = 0.2  # seconds after another machine wrote first; with force, perhaps only a renewal
_TURNS: Final = 60.0  # seconds within which it must read or renew
_READ_EVERY: Final = 20.0  # seconds between reads of the record, however long its holder has left

LeadershipTerm = Callable[[int], AbstractAsyncContextManager[None]]


class Leader:
    """Whether this instance may act, and since when; the only source for this, there is no second flag."""

    def __init__(
        self,
        record: LeaseRecord,
        holder: str,
        nonce: str,
        terms: LeaseTerms,
        clock: Clock,
        bus: Bus,
        *,
        floor: int,
        on_renewed: Callable[[float], None],
        loops: Loops | None = None,
    ) -> None:
        self._record = record
        self._writer = LeaseWriter(record, nonce, clock)
        self._floor = floor
        self._name = holder
        self._nonce = nonce
        self._terms = terms
        self._clock = clock
        self._bus = bus
        self._on_renewed = on_renewed
        self._held: Held | None = None
        self._seen: Seen | None = None
        self._holder = ""
        self._leading = False
        self._acquiring = False
        self._forced = ""
        self._abstain_until = 0.0
        self._why_not = ""
        self._end = ""
        self._failed = False  # the last term; then a new one has to begin before health is good
        self._loops = Loops(clock) if loops is None else loops
        self._ordered = asyncio.Event()
        self.reason = "starting"
        self.settled = asyncio.Event()
        """Set once it is known for the first time whether this instance acts: active or standby."""

    # --- state -------------------------------------------------------------------------------------

    def valid_for(self) -> float | None:
        """Seconds for which this instance may act without another renewal; None if it may not."""
        now = self._clock.monotonic()
        if self._held is None or not lease.may_act(self._held, now):
            return None
        return self._held.valid_until - now

    @property
    def active(self) -> bool:
        """Whether this instance acts: the lease is valid, and the term has begun."""
        return self._leading and self.valid_for() is not None

    @property
    def holder(self) -> str:
        """The holder of the lease as far as known; empty for none or unknown."""
        return self._holder

    @property
    def epoch(self) -> int | None:
        """The epoch of our term; None when passive."""
        return self._held.epoch if self._held is not None else None

    @property
    def seen(self) -> Record | None:
        """The record as last read or written; None while it was never read, or if there is none."""
        if self._held is not None:
            return self._held.record
        return self._seen.record if self._seen is not None else None

    @property
    def where(self) -> str:
        """The location of the record, for display."""
        return self._record.where

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders, newest first.  Raises Unavailable."""
        return lease.with_ends(await self._record.history(limit))

    # --- orders of an operator -------------------------------------------------------------------

    def take(self, by: str, *, force: bool) -> None:
        """Try to acquire now; with `force` from any holder.  Raises Conflict if it is ours already.

        While our term ends, the order applies to the time after it.
        """
        if self._held is not None and not self._end:
            raise Conflict(f"this instance holds the lease already, epoch {self.epoch}")
        self._abstain_until = 0.0
        self._forced = by if force else ""
        self._ordered.set()

    def let_go(self, by: str, abstain: float) -> None:
        """End the term, release, acquire nothing for `abstain` seconds.  Raises Conflict if another instance holds it.

        An acquire that is under way is released as soon as it has an answer.
        """
        ours = self._held is not None or self._acquiring or self._forced
        if not ours and self._holder not in ("", self._name):
            raise Conflict(f"this instance does not hold the lease: {self.reason}")
        self._forced = ""
        self._end = f"released by order of {by}"
        self._abstain(abstain, self._end)
        self._ordered.set()

    # --- the loop ----------------------------------------------------------------------------------

    async def run(self, lead: LeadershipTerm) -> None:
        """Alternate between standby and term, forever.  Cancelling it ends the term and releases the lease."""
        await self._loops.keep("leader", lambda loop: self._turn(loop, lead), cap=5, within=_TURNS)

    async def _turn(self, loop: Loop, lead: LeadershipTerm) -> None:
        while True:
            try:
                held = await self._stand_by(loop)
            except asyncio.CancelledError:
                # It may be ours by an acquire whose answer was still pending.
                self._end = "stopped"
                await uncancellable(self._release())
                raise
            try:
                async with self._holding():
                    log.info("active: %s", self.reason)
                    self._bus.publish("daemon", f"active, epoch {held.epoch}", epoch=held.epoch)
                    async with lead(held.epoch):
                        self._failed = False
                        loop.progress()
                        await self._lead(loop)
            except Exception as error:
                # The lease is released, so that another machine can take over.
                self._failed = True
                self.reason = f"the leadership term with epoch {held.epoch} failed: {shown(error)}"
                self.settled.set()
                await loop.failed(error, _RETRY if isinstance(error, WadError) else None)
            log.warning("passive: %s", self.reason)
            self._bus.publish("daemon", f"passive: {self.reason}")

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[None]:
        self._ordered.clear()
        try:
            yield
        except asyncio.CancelledError:
            self._end = "stopped"
            raise
        finally:
            await uncancellable(self._release())

    async def _stand_by(self, loop: Loop) -> Held:
        while True:
            loop.turn()
            self._ordered.clear()
            try:
                held, pause = await self._check()
                if held is not None:
                    return held
                if not self._failed:
                    loop.progress()
                self.settled.set()
                await self._either(self._record.changed(min(pause, _READ_EVERY)))
            except Exception as error:
                self.reason = f"cannot read the lease: {shown(error)}"
                self.settled.set()
                await loop.failed(error, _RETRY if isinstance(error, WadError) else None)

    async def _check(self) -> tuple[Held | None, float]:
        """The lease, if it became ours; otherwise the seconds until the next check."""
        try:
            seen = await self._writer.read()
            self._note(seen)
            decision = lease.decide_as_standby(seen, self._name, self._nonce, forced=self._forced)
            self.reason, pause = decision.reason, decision.again_in
            if decision.act is Act.ACQUIRE:
                if not self._abstaining():
                    self._end, self._acquiring = "", True
                    held = await self._acquire(seen, decision.reason)
                    if not self._end:
                        return held, 0.0
                # It may be ours by an acquire that an order overtook, or whose answer was lost.
                await uncancellable(self._release())
                pause = self._abstaining()
                self.reason = f"{self._why_not}; this instance tries again in {pause:.0f} s"
        except Conflict as error:
            self.reason, pause = f"lost the race: {error}", _RACE
        finally:
            self._acquiring = False
        return None, pause

    def _note(self, seen: Seen | None) -> None:
        self._seen = seen
        if seen is not None:
            self._floor = max(self._floor, seen.record.epoch)
        self._holder = seen.record.holder if seen is not None else ""

    def _abstain(self, seconds: float, why: str) -> None:
        self._abstain_until, self._why_not = self._clock.monotonic() + seconds, why

    def _abstaining(self) -> float:
        """Seconds for which we must not acquire."""
        return max(0.0, self._abstain_until - self._clock.monotonic())

    async def _acquire(self, seen: Seen | None, reason: str) -> Held:
        wanted = lease.acquired(
            seen,
            self._name,
            self._nonce,
            self._terms,
            self._clock.wall_ms(),
            reason=reason,
            floor=self._floor,
        )
        held = await self._write(wanted, seen.version if seen is not None else None)
        self._forced = ""
        if not lease.may_act(held, self._clock.monotonic()):
            # The answer took longer than the permission lasts.  Nothing acts yet, and the record is ours unless this is
            # refused; a term that began now would end at once, and again while the record is slow.
            again = lease.renewed(held.record, self._clock.wall_ms())
            self._held = None
            held = await self._write(again, held.version)
        return held

    async def _either(self, waiting: Coroutine[None, None, None]) -> None:
        """Wait for this, or for an operator's order."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._ordered.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _lead(self, loop: Loop) -> None:
        self._leading = True
        self.settled.set()
        try:
            await self._keep(loop)
        finally:
            self._leading = False

    async def _keep(self, loop: Loop) -> None:
        """Renew until the permission to act is gone, or an operator ends the term."""
        while self._held is not None and not self._end:
            loop.turn()
            now = self._clock.monotonic()
            decision = lease.decide_as_holder(self._held, now)
            self.reason = decision.reason
            match decision.act:
                case Act.STEP_DOWN:
                    self._end = decision.reason
                case Act.RENEW:
                    # An order does not wait for the answer; the write continues, and the release takes it into account.
                    await self._either(self._renew(loop, self._held, now))
                case _:
                    await self._either(asyncio.sleep(decision.again_in))
        self.reason = self._end

    async def _renew(self, loop: Loop, held: Held, now: float) -> None:
        try:
            async with asyncio.timeout(held.valid_until - now):
                try:
                    await self._write(
                        lease.renewed(held.record, self._clock.wall_ms()), held.version
                    )
                except Conflict as error:
                    await self._recognise(held, error)
            loop.progress()
        except Exception as error:
            # Whatever the error: the permission lasts, and there are more attempts until it ends.
            left = max(0.0, held.valid_until - self._clock.monotonic())
            await loop.failed(_unrenewed(error), min(_RETRY, self._terms.renew_every / 5, left))

    async def _recognise(self, held: Held, refusal: Conflict) -> None:
        """A renewal was refused: the record is another machine's, or ours by a renewal whose answer was lost."""
        seen = await self._writer.read()
        found = lease.recognised(held, seen)
        if found is None:
            self._note(seen)
            self._end = f"the lease was taken: {refusal}"
        else:
            log.info("the answer to a renewal was lost; epoch %d is still ours", held.epoch)
            self._held = found

    async def _write(self, record: Record, version: str | None) -> Held:
        sent_at = self._clock.monotonic()
        written = await self._writer.write(record, version)
        self._holder = record.holder
        self._floor = max(self._floor, record.epoch)  # in case the record is lost meanwhile
        self._held = lease.held(record, written, sent_at, self._terms)
        now, until = self._clock.monotonic(), self._held.valid_until
        # `tests.chaos.history` reads this line.
        log.debug("epoch %d: may act from %.3f until %.3f", record.epoch, now, until)
        self._on_renewed(until)
        return self._held

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            now = self._clock.monotonic()
            log.debug("epoch %d: stopped acting at %.3f", held.epoch, now)
        try:
            free = await self._writer.free(self._end, self._terms.margin)
        except WadError as error:
            log.warning("cannot release the lease, it will expire: %s", error)
            return
        if not free:
            log.warning("cannot release the lease, it will expire: no answer in time")
        elif self._holder == self._name:
            self._holder = ""


def _unrenewed(error: Exception) -> Exception:
    """The error to report for a failed renewal."""
    if isinstance(error, TimeoutError):
        return TimedOut("the lease cannot be renewed: no answer in time")
    if isinstance(error, WadError):
        return Unavailable(f"the lease cannot be renewed: {error}")
    return error
