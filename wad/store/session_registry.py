"""The port to what machines know of each other's sessions; and the adapter for one machine, which need know nothing.

What is kept of a session for another machine to go on with (its replication) belongs to this port, too, once there is
such a thing; now a session is moved by an operator (`flow.moving`).
"""

from __future__ import annotations

from typing import Protocol

from wad.core.session_location import SessionLocation


class SessionRegistry(Protocol):
    """Which instance has which account's session.  Exclusive writes carry the epoch of the lease."""

    async def all(self) -> dict[str, SessionLocation]:
        """What is known, by account.  Raises Unavailable."""
        ...

    async def put(self, place: SessionLocation, *, epoch: int) -> None:
        """This instance has it from now on.  Idempotent.  Raises Fenced, Unavailable."""
        ...

    async def forget(self, account: str, *, epoch: int) -> None:
        """No instance has it any more.  Idempotent.  Raises Fenced, Unavailable."""
        ...


class LocalSessionRegistry:
    """Every session lies here."""

    async def all(self) -> dict[str, SessionLocation]:
        """Nothing that another would have to be told."""
        return {}

    async def put(self, place: SessionLocation, *, epoch: int) -> None:
        """Nobody asks."""

    async def forget(self, account: str, *, epoch: int) -> None:
        """Nobody asks."""
