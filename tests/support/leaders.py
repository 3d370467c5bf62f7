"""Leaders of a lease that is held in memory, with short durations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wad.core.errors import Conflict, Unavailable
from wad.core.lease import LeaseTerms, Record, Seen, Tenure
from wad.flow.event_bus import Bus
from wad.flow.leadership.leader import Leader
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.store.lease import FileLease, remembered

TERMS = LeaseTerms(ttl=0.6, renew_every=0.1, margin=0.2)


class Shared:
    """A record in memory that two leaders share; it can be cut off."""

    where = "memory"

    def __init__(self) -> None:
        self.tenures: list[Tenure] = []
        self.lose_answers = 0
        self.record: Record | None = None
        self.version = 0
        self.written = 0.0
        self.cut = False
        self.clock = SystemClock()

    async def read(self) -> Seen | None:
        """The record, aged by one clock."""
        self._check()
        if self.record is None:
            return None
        return Seen(self.record, self.clock.monotonic() - self.written, str(self.version))

    async def write(self, record: Record, expected: str | None) -> str:
        """Compare and set."""
        self._check()
        if expected != (None if self.record is None else str(self.version)):
            raise Conflict("another instance wrote")
        known, self.record = self.record, record
        self.version, self.written = self.version + 1, self.clock.monotonic()
        if known is None or known.epoch != record.epoch or not record.holder:
            self.tenures = remembered(self.tenures, record)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unavailable("the answer was lost")
        return str(self.version)

    async def history(self, limit: int) -> list[Tenure]:
        """All previous holders."""
        return self.tenures[-limit:]

    async def changed(self, timeout: float) -> None:
        """Poll."""
        await asyncio.sleep(min(timeout, 0.05))

    def _check(self) -> None:
        if self.cut:
            raise Unavailable("cut off")


class Leaderships:
    """Counts leadership terms; `acting` is whether one runs."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.acting = False

    @asynccontextmanager
    async def lead(self, epoch: int) -> AsyncIterator[None]:
        """Begin and end a leadership, like the daemon."""
        self.epochs.append(epoch)
        self.acting = True
        try:
            yield
        finally:
            self.acting = False


def a_leader(
    record: Shared | FileLease,
    name: str,
    on_renewed: Callable[[float], None] = lambda s: None,
    loops: Loops | None = None,
) -> Leader:
    """A leader with short durations."""
    clock = SystemClock()
    return Leader(
        record, name, name, TERMS, clock, Bus(clock), floor=0, on_renewed=on_renewed, loops=loops
    )


@asynccontextmanager
async def running(leader: Leader, leaderships: Leaderships) -> AsyncIterator[asyncio.Task[None]]:
    """Run it, and end it as the daemon does."""
    task = asyncio.create_task(leader.run(leaderships.lead))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
