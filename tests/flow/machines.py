"""Machines of one registry of session locations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.small_world import World, a_world
from wad.core.errors import Fenced, Unavailable
from wad.core.session_location import SessionLocation


class FakeRegistry:
    """The registry of session locations, kept in this process.  `away`: it is unavailable."""

    def __init__(self) -> None:
        self.locations: dict[str, SessionLocation] = {}
        self.epoch = 0
        self.away = False

    async def all(self) -> dict[str, SessionLocation]:
        """See `SessionRegistry`."""
        self._check(self.epoch)
        return dict(self.locations)

    async def put(self, location: SessionLocation, *, epoch: int) -> None:
        """See `SessionRegistry`."""
        self._check(epoch)
        self.locations[location.account] = location

    async def forget(self, account: str, *, epoch: int) -> None:
        """See `SessionRegistry`."""
        self._check(epoch)
        self.locations.pop(account, None)

    def _check(self, epoch: int) -> None:
        if self.away:
            raise Unavailable("Firestore does not answer")
        if epoch < self.epoch:
            raise Fenced(f"epoch {epoch} is over")


@asynccontextmanager
async def machine(directory: Path, known: FakeRegistry, name: str) -> AsyncIterator[World]:
    """A machine that acts."""
    async with (
        a_world(directory / name, registry=known, instance=name, boot=name) as world,
        world.leading(),
    ):
        yield world
