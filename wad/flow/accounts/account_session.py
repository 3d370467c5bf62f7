"""The session of an account: its file, which is read and replaced on threads and never on the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from wad.engine import Engine
from wad.lib.cancellation import uncancellable
from wad.lib.clock import Clock, stamp
from wad.lib.threads import ThreadPool
from wad.state.account_dir import AccountDir


class AccountSession:
    """The session file of one account.

    A method that replaces the file requires `lock`, and finishes before its caller is cancelled: the lock must not be
    released while a thread still moves files.
    """

    def __init__(
        self, account_dir: AccountDir, engine: Engine, threads: ThreadPool, clock: Clock
    ) -> None:
        self._account_dir = account_dir
        self._engine = engine
        self._threads = threads
        self._clock = clock
        self.lock = asyncio.Lock()
        """Held from a check of the file until its result is applied, and while the file is replaced.

        Otherwise a worker could start on a file that a thread is moving.
        """

    async def is_paired(self) -> bool:
        """Whether there is a session on the disk.  Raises Damaged, EngineFailure, Unavailable.

        On a thread: the worker writes that file, and at the beginning of a term this account is one of many.
        """
        return await self._threads.run(self._engine.is_paired, self._account_dir)

    async def digest(self) -> bytes:
        """The SHA-256 of the whole session.  No worker may have it open.  Raises Damaged, Unavailable."""
        return await asyncio.to_thread(self._digest)

    def _digest(self) -> bytes:
        return hashlib.sha256(self._engine.copy_session(self._account_dir)).digest()

    async def set_aside(self, why: str = "damaged") -> Path:
        """Rename the file to NAME.WHY-STAMP; return the new path.  Raises StateUnwritable."""
        move = self._account_dir.set_aside
        return await uncancellable(
            self._threads.run(move, self._account_dir.session_db, stamp(self._clock), why)
        )

    async def take(self, file: Path) -> None:
        """Move a session file here; a present file without a session is set aside.  Raises StateUnwritable."""
        move = self._account_dir.take_session
        await uncancellable(self._threads.run(move, file, stamp(self._clock)))

    async def put(self, session: bytes) -> None:
        """Write a session that `Engine.copy_session` returned elsewhere; a present file without a session is set aside.

        Raises BadInput, StateUnwritable.
        """
        # Not on the threads for small files: a session can be large.
        await uncancellable(asyncio.to_thread(self._put, session))

    def _put(self, session: bytes) -> None:
        if self._account_dir.session_db.exists():
            self._account_dir.set_aside(
                self._account_dir.session_db, stamp(self._clock), "unpaired"
            )
        self._engine.put_session(self._account_dir, session)
