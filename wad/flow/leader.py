"""Holds the lease, and runs the reign: everything exclusive lives inside it.

`core.lease` decides, this drives: it reads and writes the record, hands each renewal on, and when the right to act
ends, leaves the reign, whose nesting stops outbound first, then the workers, and only then lets go of the record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from wad.clock import Clock
from wad.core import lease
from wad.core.errors import Conflict, WadError
from wad.core.lease import Act, Held, Record, Terms
from wad.flow.bus import Bus
from wad.store.lease import LeaseRecord

log = logging.getLogger(__name__)

_RETRY: Final = 1.0  # seconds after the record could not be read or written

Reign = Callable[[int], AbstractAsyncContextManager[None]]


class Leader:
    """Whether this instance may act, and since when; everybody asks here, there is no second flag."""

    def __init__(
        self,
        record: LeaseRecord,
        holder: str,
        nonce: str,
        terms: Terms,
        clock: Clock,
        bus: Bus,
        *,
        floor: int,
        on_renewed: Callable[[float], None],
    ) -> None:
        self._record = record
        self._floor = floor
        self._name = holder
        self._nonce = nonce
        self._terms = terms
        self._clock = clock
        self._bus = bus
        self._on_renewed = on_renewed
        self._held: Held | None = None
        self._own: Record | None = None
        self._holder = ""
        self._reigning = False
        self.reason = "starting"
        self.last_turn = clock.monotonic()
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

    # --- the loop ----------------------------------------------------------------------------------

    async def run(self, reign: Reign) -> None:
        """Stand by, reign, stand by again, for ever.  Cancelling it ends the reign and releases the lease."""
        while True:
            held = await self._stand_by()
            async with self._holding():
                log.info("active: %s", self.reason)
                self._bus.publish("daemon", f"active, epoch {held.epoch}", epoch=held.epoch)
                async with reign(held.epoch):
                    await self._keep_reigning()
            log.warning("passive: %s", self.reason)
            self._bus.publish("daemon", f"passive: {self.reason}")

    @asynccontextmanager
    async def _holding(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.shield(self._release())

    async def _stand_by(self) -> Held:
        while True:
            self.last_turn = self._clock.monotonic()
            try:
                seen = await self._record.read()
                self._holder = seen.record.holder if seen is not None else ""
                decision = lease.decide_as_standby(seen, self._name, self._terms)
                self.reason = decision.reason
                if decision.act is Act.ACQUIRE:
                    wanted = lease.acquired(
                        seen,
                        self._name,
                        self._nonce,
                        self._terms,
                        self._clock.wall_ms(),
                        self._floor,
                    )
                    return await self._write(wanted, seen.version if seen is not None else None)
                pause = decision.again_in
            except Conflict as error:
                self.reason, pause = f"lost the race: {error}", _RETRY
            except WadError as error:
                self.reason, pause = f"cannot read the lease: {error}", _RETRY
                log.warning("%s", self.reason)
            self.settled.set()
            await self._record.changed(pause)

    async def _keep_reigning(self) -> None:
        self._reigning = True
        self.settled.set()
        try:
            await self._keep()
        finally:
            self._reigning = False

    async def _keep(self) -> None:
        """Renew until the right to act is gone."""
        while self._held is not None and self._own is not None:
            self.last_turn = now = self._clock.monotonic()
            decision = lease.decide_as_holder(self._held, now)
            self.reason = decision.reason
            match decision.act:
                case Act.STEP_DOWN:
                    return
                case Act.RENEW:
                    if not await self._renew(self._held, self._own, now):
                        return
                case _:
                    await asyncio.sleep(decision.again_in)

    async def _renew(self, held: Held, own: Record, now: float) -> bool:
        try:
            async with asyncio.timeout(held.valid_until - now):
                await self._write(lease.renewed(own, self._clock.wall_ms()), held.version)
        except Conflict as error:
            self.reason = f"the lease was taken: {error}"
            return False
        except (WadError, TimeoutError) as error:
            log.warning("cannot renew the lease: %s", error or "no answer in time")
            left = max(0.0, held.valid_until - self._clock.monotonic())
            await asyncio.sleep(min(_RETRY, self._terms.renew_every / 5, left))
        return True

    async def _write(self, record: Record, version: str | None) -> Held:
        sent_at = self._clock.monotonic()
        written = await self._record.write(record, version)
        self._own, self._holder = record, record.holder
        self._held = lease.held(record, written, sent_at, self._terms)
        self._on_renewed(self._held.valid_until - self._clock.monotonic())
        return self._held

    async def _release(self) -> None:
        held, own, self._held, self._own = self._held, self._own, None, None
        if held is None or own is None:
            return
        try:
            async with asyncio.timeout(self._terms.margin):
                await self._record.write(lease.released(own, self._clock.wall_ms()), held.version)
            self._holder = ""
        except (WadError, TimeoutError) as error:
            log.warning(
                "cannot release the lease, it will run out: %s", error or "no answer in time"
            )
