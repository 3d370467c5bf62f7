"""The session registry port: which machine has which session; and the adapter for a single machine.

A session is moved by an operator (`flow.accounts.moving`).  Replication of sessions would belong to this port, too.
"""

from __future__ import annotations

from typing import Protocol

from wad.core.session_location import SessionLocation


class SessionRegistry(Protocol):
    """Which instance has which account's session.  Exclusive writes carry the epoch of the lease."""

    async def all(self) -> dict[str, SessionLocation]:
        """The known locations, by account.  Raises Unavailable."""
        ...

    async def put(self, location: SessionLocation, *, epoch: int) -> None:
        """Register the session's location.  Idempotent.  Raises Fenced, Unavailable."""
        ...

    async def forget(self, account: str, *, epoch: int) -> None:
        """Delete the account's location.  Idempotent.  Raises Fenced, Unavailable."""
        ...


class LocalSessionRegistry:
    """The registry of a single machine, where every session is."""

    async def all(self) -> dict[str, SessionLocation]:
        """An empty registry: there is no other machine."""
        return {}

    async def put(self, location: SessionLocation, *, epoch: int) -> None:
        """Do nothing: there is no other machine."""

    async def forget(self, account: str, *, epoch: int) -> None:
        """Do nothing: there is no other machine."""
