"""Holds the lease, and runs the reign: everything exclusive lives inside it.

`core.lease` decides, this drives: it reads and writes the record, hands each renewal on, and when the right to act
ends, leaves the reign, whose nesting stops outbound first, then the workers, and only then lets go of the record.
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
from wad.lib.clock import Clock
from wad.lib.loops import Loop, Loops, shown
from wad.store.lease import LeaseRecord

log = logging.getLogger(__name__)

_RETRY: Final = 1.0  # seconds after the record could not be read or written
_RACE: Final = 0.2  # seconds after somebody else wrote first: of force, perhaps only a renewal
_TURNS: Final = 60.0  # seconds in which it looks or renews
_LOOK: Final = 20.0  # seconds between looks at the record, however long its holder has left

Reign = Callable[[int], AbstractAsyncContextManager[None]]


class Leader:
    """Whether this instance may act, and since when; everybody asks here, there is no second flag."""

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
        self._reigning = False
        self._forced = ""
        self._abstain_until = 0.0
        self._why_not = ""
        self._end = ""
        self._failed = False  # the last reign; then another one has to begin before all is well
        self._loops = Loops(clock) if loops is None else loops
        self._ordered = asyncio.Event()
        self.reason = "starting"
        self.settled = asyncio.Event()
        """Set once it is known for the first time whether this instance acts: it reigns, or stands by."""

    # --- what everybody asks -------------------------------------------------------------------

    def valid_for(self) -> float | None:
        """Seconds for which this instance may act without another renewal; None when it may not."""
        now = self._clock.monotonic()
        if self._held is None or not lease.may_act(self._held, now):
            return None
        return self._held.valid_until - now

    @property
    def active(self) -> bool:
        """Whether this instance acts: the lease is valid, and the reign has begun."""
        return self._reigning and self.valid_for() is not None

    @property
    def holder(self) -> str:
        """Who holds the lease as far as we know; empty when nobody, or unknown."""
        return self._holder

    @property
    def epoch(self) -> int | None:
        """The epoch of our reign; None when passive."""
        return self._held.epoch if self._held is not None else None

    @property
    def seen(self) -> Record | None:
        """The record as last read or written; None while it was never read, or there is none."""
        if self._held is not None:
            return self._held.record
        return self._seen.record if self._seen is not None else None

    @property
    def where(self) -> str:
        """Where the record lies, for people."""
        return self._record.where

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders, newest first.  Raises Unavailable."""
        return lease.told(await self._record.history(limit))

    # --- what a person can order -----------------------------------------------------------------

    def take(self, by: str, *, force: bool) -> None:
        """Try to acquire now; with `force` whoever holds it.  Raises Conflict where it is ours already.

        While our reign ends it is said of the time after that.
        """
        if self._held is not None and not self._end:
            raise Conflict(f"this instance holds the lease already, epoch {self.epoch}")
        self._abstain_until = 0.0
        self._forced = by if force else ""
        self._ordered.set()

    def let_go(self, by: str, abstain: float) -> None:
        """End the reign, release, acquire nothing for `abstain` seconds.  Raises Conflict where we don't hold it."""
        if self._held is None:
            raise Conflict(f"this instance does not hold the lease: {self.reason}")
        self._end = f"released by order of {by}"
        self._abstain(abstain, self._end)
        self._ordered.set()

    # --- the loop ----------------------------------------------------------------------------------

    async def run(self, reign: Reign) -> None:
        """Stand by, reign, stand by again, for ever.  Cancelling it ends the reign and releases the lease."""
        await self._loops.keep("leader", lambda loop: self._turn(loop, reign), cap=5, within=_TURNS)

    async def _turn(self, loop: Loop, reign: Reign) -> None:
        while True:
            try:
                held = await self._stand_by(loop)
            except asyncio.CancelledError:
                # It may be ours by an acquire whose answer was still on its way.
                self._end = "stopped"
                await _whatever_happens(self._release())
                raise
            try:
                async with self._holding():
                    log.info("active: %s", self.reason)
                    self._bus.publish("daemon", f"active, epoch {held.epoch}", epoch=held.epoch)
                    async with reign(held.epoch):
                        self._failed = False
                        loop.progress()
                        await self._keep_reigning(loop)
            except Exception as error:
                # The lease is let go of, so that another machine may do better.
                self._failed = True
                self.reason = f"the reign of epoch {held.epoch} failed: {shown(error)}"
                self.settled.set()
                await loop.failed(error, _RETRY if isinstance(error, WadError) else None)
            log.warning("passive: %s", self.reason)
            self._bus.publish("daemon", f"passive: {self.reason}")

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[None]:
        self._end = ""
        self._ordered.clear()
        try:
            yield
        except asyncio.CancelledError:
            self._end = "stopped"
            raise
        finally:
            await _whatever_happens(self._release())

    async def _stand_by(self, loop: Loop) -> Held:
        while True:
            loop.turn()
            self._ordered.clear()
            try:
                held, pause = await self._look()
                if held is not None:
                    return held
                if not self._failed:
                    loop.progress()
                self.settled.set()
                await self._either(self._record.changed(min(pause, _LOOK)))
            except Exception as error:
                self.reason = f"cannot read the lease: {shown(error)}"
                self.settled.set()
                await loop.failed(error, _RETRY if isinstance(error, WadError) else None)

    async def _look(self) -> tuple[Held | None, float]:
        """The lease, if it became ours; else after how many seconds to look again."""
        try:
            seen = await self._writer.read()
            self._note(seen)
            decision = lease.decide_as_standby(seen, self._name, self._nonce, forced=self._forced)
            self.reason, pause = decision.reason, decision.again_in
            if decision.act is Act.ACQUIRE:
                if not (pause := self._abstaining()):
                    return await self._acquire(seen, decision.reason), 0.0
                self.reason = f"{self._why_not}; this instance tries again in {pause:.0f} s"
        except Conflict as error:
            self.reason, pause = f"lost the race: {error}", _RACE
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
            # The answer took longer than the right lasts.  Nothing acts yet, and the record is ours unless this is
            # refused; a reign that began now would end at once, and so on while the keeper is slow.
            again = lease.renewed(held.record, self._clock.wall_ms())
            held = await self._write(again, held.version)
        return held

    async def _either(self, waiting: Coroutine[None, None, None]) -> None:
        """Wait for this, or for a person's order."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._ordered.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_reigning(self, loop: Loop) -> None:
        self._reigning = True
        self.settled.set()
        try:
            await self._keep(loop)
        finally:
            self._reigning = False

    async def _keep(self, loop: Loop) -> None:
        """Renew until the right to act is gone, or a person wants it to end."""
        while self._held is not None and not self._end:
            loop.turn()
            now = self._clock.monotonic()
            decision = lease.decide_as_holder(self._held, now)
            self.reason = decision.reason
            match decision.act:
                case Act.STEP_DOWN:
                    self._end = decision.reason
                case Act.RENEW:
                    # An order need not wait for the answer; the write goes on, and the release knows of it.
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
            # Whatever it is: the right to act lasts, and there are more tries until it ends.
            left = max(0.0, held.valid_until - self._clock.monotonic())
            await loop.failed(_unrenewed(error), min(_RETRY, self._terms.renew_every / 5, left))

    async def _recognise(self, held: Held, refusal: Conflict) -> None:
        """A renewal was refused: the record is somebody else's, or ours by a renewal whose answer was lost."""
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
        self._floor = max(self._floor, record.epoch)  # should the record be lost meanwhile
        self._held = lease.held(record, written, sent_at, self._terms)
        now, until = self._clock.monotonic(), self._held.valid_until
        # What `tests.chaos.history` reads.
        log.debug("epoch %d: may act from %.3f until %.3f", record.epoch, now, until)
        self._on_renewed(until)
        return self._held

    async def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            now = self._clock.monotonic()
            log.debug("epoch %d: acts no more since %.3f", held.epoch, now)
        try:
            free = await self._writer.free(self._end, self._terms.margin)
        except WadError as error:
            log.warning("cannot release the lease, it will run out: %s", error)
            return
        if not free:
            log.warning("cannot release the lease, it will run out: no answer in time")
        elif self._holder == self._name:
            self._holder = ""


def _unrenewed(error: Exception) -> Exception:
    """What is wrong, where a renewal has failed."""
    if isinstance(error, TimeoutError):
        return TimedOut("the lease cannot be renewed: no answer in time")
    if isinstance(error, WadError):
        return Unavailable(f"the lease cannot be renewed: {error}")
    return error


async def _whatever_happens(work: Coroutine[None, None, None]) -> None:
    """Do it to its end, even if whoever waits is cancelled meanwhile, however often."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
