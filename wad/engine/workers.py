"""The real engine: starts worker processes, and reads their sessions.  It never imports the library."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wad.core.errors import EngineFailure, WadError
from wad.core.masking import masked
from wad.engine import resolver_files
from wad.engine import session_db as session
from wad.engine.lost_messages import Comparison
from wad.engine.port import EngineOptions, LibraryLoaded, Receipts, Report
from wad.engine.process import Child, Process, cannot_start, lower_priority, spawn
from wad.engine.retranslation import retranslated
from wad.engine.supervision import REDELIVERY_MS
from wad.engine.worker import NeonizeWorker
from wad.lib import open_files
from wad.lib.clock import SystemClock
from wad.lib.module_command import module_command
from wad.lib.threads import ThreadPool, cores
from wad.state.account_dir import AccountDir

if TYPE_CHECKING:
    from wad.engine.baileys.translation import Carried

log = logging.getLogger(__name__)

_INHERITED: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV", "GODEBUG", "GOMAXPROCS"),
        *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"),
        *("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)
"""The environment of a worker: nothing else, since the daemon's environment may contain secrets."""
_HANDLES: Final = 7
"""Two of the socket, the pipe, the process, its meter, and the other end for a moment."""


@cache
def _launchers() -> ThreadPool:
    """The threads that start workers: one for each that may start at once (wad/flow/accounts/start_queue.py)."""
    return ThreadPool("launch", cores())


class NeonizeEngine:
    """The engine that runs neonize, one process per account."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._workers: set[NeonizeWorker] = set()
        self._threads = _launchers()

    @property
    def receipts(self) -> Receipts | None:
        """The weakest guarantee of the running workers; None while none has reported it."""
        reported = {worker.receipts for worker in self._workers} - {None}
        if not reported:
            return None
        return Receipts.EARLY if Receipts.EARLY in reported else Receipts.AFTER_STORE

    async def launch(
        self, account_dir: AccountDir, report: Callable[[Report], None], permit: float
    ) -> NeonizeWorker:
        """Start a worker; it sends its reports to `report`.  Raises EngineFailure.

        A refusal of the kernel (handles, memory, processes) affects only this account, and leaves nothing behind.
        """
        until = SystemClock().monotonic() + permit
        launching = asyncio.ensure_future(self._threads.run(self._spawn, account_dir, until))
        try:
            started = await asyncio.shield(launching)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: a worker that it starts after all has to be ended.
            with suppress(EngineFailure):
                (await launching).give_up()
            raise
        return await self._watch(account_dir, started, report)

    async def _watch(
        self, account_dir: AccountDir, started: _Started, report: Callable[[Report], None]
    ) -> NeonizeWorker:
        def on_line(line: str) -> None:
            log.debug("worker: %s", masked(line), extra={"account": account_dir.id})

        try:
            reader, writer = await asyncio.open_connection(sock=started.ours)
        except BaseException as error:
            started.give_up()
            if isinstance(error, OSError):
                raise cannot_start(error) from error
            raise
        try:
            process = Process(started.child, on_line, account_dir.id)
        except EngineFailure:
            writer.close()
            started.spare.close()
            raise

        def on_report(what: Report) -> None:
            if isinstance(what, LibraryLoaded):  # only then: few load at a time
                self._threads.post(self._lower_priority, account_dir.id, process.pid)
            report(what)

        worker = NeonizeWorker(
            account_dir,
            process,
            reader,
            writer,
            on_report,
            self._options,
            started.comparison,
            started.spare,
        )
        worker.resolving = started.resolving
        self._workers.add(worker)
        worker.ended.add_done_callback(lambda _ended: self._workers.discard(worker))
        if (groups := self._options.groups) is not None:
            worker.ended.add_done_callback(
                lambda _ended: self._threads.post(groups.drop, account_dir.id)
            )
        return worker

    def _spawn(self, account_dir: AccountDir, until: float) -> _Started:
        """Prepare the session's database, then start the process; on a thread.  Raises EngineFailure."""
        comparison = self._prepare(account_dir)
        seen = resolver_files.signature()
        try:
            open_files.check_left(_HANDLES)
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise cannot_start(error) from error
        try:
            spare = ours.dup()
        except OSError as error:
            ours.close()
            theirs.close()
            raise cannot_start(error) from error
        argv = module_command(
            "wad.worker.main", "--account", account_dir.id, "--account-dir", str(account_dir.path),
            "--fd", str(theirs.fileno()), "--parent", str(os.getpid()), "--until", str(until),
            "--media", str(self._options.media), "--device", self._options.device_name,
        )  # fmt: skip
        try:
            # SQLite's temporary files must be in a directory where the worker may write.
            environ = self._environ() | {"TMPDIR": str(account_dir.path)}
            child = spawn(
                argv, environ, theirs, lambda pid: self._add_to_group(account_dir.id, pid)
            )
        except BaseException:
            ours.close()
            spare.close()
            raise
        return _Started(child, ours, spare, comparison, seen)

    def _add_to_group(self, account: str, pid: int) -> None:
        """Put a new process into its control group."""
        if (groups := self._options.groups) is not None:
            groups.take(account, pid)

    def _lower_priority(self, account: str, pid: int | None) -> None:
        """Let the daemon run before a process that no control group weighs."""
        groups = self._options.groups
        if pid is None or (groups is not None and groups.weighs):
            return
        try:
            lower_priority(pid, self._options.accounts())
        except OSError as error:  # the unit's filter of system calls, or it has ended
            log.debug(
                "cannot lower the priority of a worker: %s", error, extra={"account": account}
            )

    def _prepare(self, account_dir: AccountDir) -> Comparison | None:
        """Work on the session's database before the library opens it."""
        clock = SystemClock()
        try:
            session.prune_plaintexts(account_dir.session_db, clock.wall_ms() - REDELIVERY_MS)
            return Comparison(account_dir, clock)
        except (WadError, OSError) as error:  # the worker checks both files and reports damage
            log.warning(
                "cannot check for lost messages: %s", error, extra={"account": account_dir.id}
            )
            return None

    def _environ(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name in _INHERITED}
        # A small heap for each of many processes: collected when it has grown by half, and few arenas.
        environ |= {"GOGC": "50", "MALLOC_ARENA_MAX": "2"}
        # Without it the library marks every private message as written by a bot
        # (docs/internals/library.md#database-and-identity).
        environ |= {"NEONIZE_BOT_TAG": "off", "PYTHONUNBUFFERED": "1"}
        if self._options.proxy:
            environ |= {"HTTPS_PROXY": self._options.proxy, "https_proxy": self._options.proxy}
        return environ

    def is_paired(self, account_dir: AccountDir) -> bool:
        """Whether there is a session on the disk.  Raises Damaged."""
        return session.is_paired(account_dir.session_db)

    def copy_session(self, account_dir: AccountDir) -> bytes:
        """The session's database, including its log.  Raises Damaged, Unavailable."""
        return session.copy(account_dir.session_db)

    def put_session(self, account_dir: AccountDir, session_db: bytes) -> None:
        """Write a database.  Raises BadInput (it has no device), StateUnwritable."""
        session.check_copy(session_db)
        account_dir.write_session(session_db)

    async def write_session(self, file: Path, session: Carried) -> None:
        """Let the library create its tables, in a separate process, and fill them."""
        # Imported with the first session of another backend, like its translation.
        from wad.engine.baileys import write

        await asyncio.to_thread(write.write, file, session, self._environ())

    async def translate(self, kind: str, raw: bytes) -> bytes | None:
        """Translate a row's bytes into an encoded event, in a separate process."""
        return await asyncio.to_thread(retranslated, kind, raw, self._environ())

    def sent_as(self, account_dir: AccountDir, secret: bytes, mark: str) -> str | None:
        """The traces of an attempt in the session's database (valid only once the worker has ended)."""
        return session.sent_as(account_dir.session_db, secret, mark)


@dataclass(frozen=True, slots=True)
class _Started:
    """A worker process that is not supervised yet; `spare` is a second handle of `ours`."""

    child: Child
    ours: socket.socket
    spare: socket.socket
    comparison: Comparison | None
    resolving: resolver_files.Signature

    def give_up(self) -> None:
        """End it."""
        self.ours.close()
        self.spare.close()
        self.child.give_up()
