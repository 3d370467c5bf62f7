"""The composition root: it builds the daemon's objects and defines the order of shutdown.

    state lock > store > accounts' tasks and inbound > listeners > lease > leadership (workers > outbound)

The nesting is the order of shutdown, from right to left; there is no list of objects to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from wad import __version__
from wad.api.control.server import serve_control, serve_http_calls
from wad.api.http_process.calls import HttpCalls, HttpProcesses, publish
from wad.api.http_process.child import HttpChild
from wad.api.http_process.supervisor import HttpProcess
from wad.api.views.problems import problems
from wad.config import LoadedConfig
from wad.core.connection import RetryDelays, State
from wad.core.errors import Damaged, StateUnwritable, Unavailable, WadError
from wad.core.lease import LeaseTerms
from wad.core.problem import Problem, ProblemTimes
from wad.core.quarantine import Source
from wad.engine import EngineOptions, open_engine
from wad.flow.accounts.accounts import Accounts
from wad.flow.accounts.importing import Imports
from wad.flow.accounts.moving import Moving
from wad.flow.accounts.surroundings import AccountOptions, Surroundings
from wad.flow.accounts.worker_renewal import Renewal
from wad.flow.event_bus import Bus
from wad.flow.inbound.backfill import Backfills, Pace
from wad.flow.leadership.leader import Leader
from wad.flow.outbound.queue import Outbound
from wad.flow.outbound.tidying import tidy_media
from wad.flow.quarantine import Quarantine
from wad.flow.self_inspection import Database, Inspection
from wad.lib import open_files
from wad.lib.clock import Clock, SystemClock
from wad.lib.dumpable import make_undumpable
from wad.lib.loops import Loop, Loops
from wad.lib.signals import STOPPED, Signals
from wad.lib.sqlite_file import Progress
from wad.lib.threads import ThreadPool
from wad.state import ownership
from wad.state.account_dir import AccountDirs, StateLock, check_writable
from wad.state.outgoing_files import OutgoingFiles
from wad.store import STORE_FILE, Shared, Store, open_shared, open_store
from wad.store.emptied import beginning, watch_beginning
from wad.systemd.activation import CONTROL, HTTP, HTTP_CALLS, Start
from wad.systemd.cgroups import Groups, NoGroups, WorkerLimits, divide
from wad.systemd.failed_start import Supervisor
from wad.systemd.log import install, set_level
from wad.systemd.log_stream import LogStream
from wad.systemd.notify import Notifier, watchdog_interval

log = logging.getLogger(__name__)

_SWITCH = 0.001  # seconds
_PULSE = 5.0  # seconds between two self-checks, unless systemd's watchdog requires a shorter time
_DISK_EVERY = 30.0
_SPACE_EVERY = 1.0
_TIDY_EVERY = 3600.0
_UPGRADE_MORE = (
    120.0  # seconds that systemd is asked for, again and again, while the store's file is upgraded
)
_LAST_LINES = (
    1.0  # seconds in which the log is written before the process executes the program again
)
_LAST_STEPS = 2.0  # seconds, beside those for the release of the lease, after a second stop signal


class Daemon:
    """The live objects of the daemon; the operations see them as `wad.api.context.Context`."""

    def __init__(
        self,
        loaded: LoadedConfig,
        store: Store,
        shared: Shared,
        clock: Clock,
        boot_id: str,
        floor: int,
        groups: Groups | NoGroups,
        loops: Loops,
    ) -> None:
        config = loaded.config
        self._groups = groups
        self.loops = loops
        self.loaded = loaded
        self.store = store
        self._shared = shared
        self.clock = clock
        self.boot_id = boot_id
        self.started_ms = clock.wall_ms()
        self._started = clock.monotonic()
        self._warnings = list(loaded.warnings)
        self._refusal = ""
        self._full = ""
        self._tight = ""
        self._disk = ThreadPool("disk", 1)  # it may hang as long as a disk hangs
        self._ownership: list[Problem] = []
        self._beginning: Problem | None = None
        self.problem_times = ProblemTimes()
        self.http_processes = HttpProcesses()
        self.inspection = Inspection(clock, self._databases)
        self.internal_errors = 0
        self.sessions_writable: bool | None = None
        self.stopping = asyncio.Event()
        self.ready = False
        self.killing = False
        self.restarting = False
        self.bus = Bus(clock)
        self.media = OutgoingFiles(
            config.state.dir / "media", clock, partial(secrets.token_hex, 16)
        )
        engine = open_engine(
            config.engine.kind,
            EngineOptions(
                media=self.media.root,
                device_name=config.engine.device_name,
                proxy=config.engine.proxy,
                probe_every=config.engine.probe_every,
                probe_timeout=config.engine.probe_timeout,
                groups=groups if isinstance(groups, Groups) else None,
                loops=loops,
                accounts=lambda: len(self.accounts.all()),
            ),
        )
        around = Surroundings(
            engine,
            store,
            self.bus,
            clock,
            loops,
            _account_options(loaded),
            self._permit,
            config.instance.id,
            lambda: self._refusal,
            shared.session_registry,
        )
        self.account_dirs = AccountDirs(config.state.sessions)
        self.accounts = Accounts(self.account_dirs, around, partial(secrets.token_hex, 8))
        self.moving = Moving(self.accounts, secrets.token_bytes)
        self.imports = Imports(
            self.accounts,
            self.account_dirs,
            clock,
            partial(secrets.token_hex, 16),
            secrets.token_bytes,
        )
        self.outbound = Outbound(
            store,
            self.accounts,
            self.bus,
            clock,
            loops,
            config.instance.id,
            secrets.token_bytes,
            self._permit,
        )
        self.backfills = Backfills(
            store, self.bus, Pace(config.engine.backfill_timeout, config.engine.backfill_pause)
        )
        self.quarantine = Quarantine(self._quarantine_sources)
        self.leader = Leader(
            shared.lease,
            config.instance.id,
            boot_id,
            LeaseTerms(config.lease.ttl, config.lease.renew_every, config.lease.margin),
            clock,
            self.bus,
            floor=floor,
            on_renewed=self.accounts.permit,
            loops=loops,
        )

    @property
    def uptime(self) -> float:
        """Seconds since the start of this process."""
        return self.clock.monotonic() - self._started

    @property
    def limits(self) -> WorkerLimits:
        """The limits of the worker of each account."""
        return self._groups.limits

    def _permit(self) -> float:
        return self.leader.valid_for() or 0.0

    def _quarantine_sources(self) -> list[Source]:
        """The sources of quarantined items."""
        own = [] if self.store.quarantine is None else [self.store.quarantine]
        return [*own, *(account.quarantine for account in self.accounts.all())]

    @property
    def warnings(self) -> list[str]:
        """The warnings about the configuration."""
        return self._warnings

    @property
    def findings(self) -> Sequence[Problem]:
        """The problems that the self-checks have found."""
        full = [Problem(code="no_room", text=self._full)] if self._full else []
        if self._tight and not self._full:
            full.append(Problem(code="space_low", text=self._tight))
        anew = [] if self._beginning is None else [self._beginning]
        found = [*full, *anew, *self._ownership, *self._shared.problems()]
        return [*found, *self.inspection.problems]

    def _databases(self) -> Iterator[Database]:
        """The databases whose write-ahead logs are monitored."""
        yield Database("", self.loaded.config.state.dir / STORE_FILE)
        for account in self.accounts.all():
            yield Database(account.id, account.account_dir.spool_db)
            yield Database(account.id, account.account_dir.session_db)

    def restart(self) -> None:
        """Stop gracefully, and let a new process take over."""
        self.restarting = True
        self.stopping.set()

    @asynccontextmanager
    async def lead(self, epoch: int) -> AsyncIterator[None]:
        """Run all exclusive work for one leadership term."""
        async with (
            self.store.lead(epoch, self.outbound.wake),
            self.accounts.lead(epoch),
            self.outbound.lead(epoch),
            self.backfills.lead(),
        ):
            yield

    # --- self-checks ----------------------------------------------------------------------------

    def summary(self) -> str:
        """The line for `systemctl status`."""
        if not self.ready:
            return "starting"
        accounts = self.accounts.all()
        connected = sum(account.status.state is State.CONNECTED for account in accounts)
        backlog = sum(account.inbound.backlog for account in accounts)
        mode = "active" if self.leader.active else "passive"
        return f"{mode}, {connected} of {len(accounts)} accounts connected, backlog {backlog}"

    def stuck(self) -> str:
        """The loops that have not iterated for too long; empty if there are none."""
        hung = [(loop.name, loop.account, loop.hung_for() or 0) for loop in self.loops.hung]
        return ", ".join(
            f"{name} {account}".rstrip() + f" ({age:.0f} s)" for name, account, age in hung
        )

    async def check_space(self) -> None:
        """Stop the workers while there is still space to store their events: messages then wait at WhatsApp, not here.

        Raises StateUnwritable if the free space is unknown; the last result stays valid.
        """
        state = self.loaded.config.state
        self._full, self._tight = await self._disk.run(
            _space, (self.account_dirs.root, state.dir), state.min_free_mb
        )
        sync = self.store.sync_status
        refusal = self._full or (sync.refusal if sync is not None else "")
        if refusal != self._refusal:
            self._refusal = refusal
            log.warning("%s", refusal or "there is enough space again: accounts continue")
            self.accounts.reconsider()

    def _check_owners(self) -> None:
        directories, uid = (self.account_dirs.root, self.loaded.config.state.dir), os.geteuid()
        try:
            foreign = ownership.foreign(directories, uid)
        except OSError as error:
            log.warning("cannot check the owners of the state's files: %s", error)
            return
        found = list(ownership.problems(foreign, directories, uid))
        for problem in found:
            if problem not in self._ownership:
                log.error("%s", problem.text)
        self._ownership = found

    async def check_disk(self) -> None:
        """Update `sessions_writable` and the problems of the state directory."""
        await asyncio.to_thread(self._check_owners)
        self._beginning = await asyncio.to_thread(
            beginning, self.loaded.config.state.dir / STORE_FILE
        )
        try:
            await asyncio.to_thread(check_writable, self.account_dirs.root)
            self.sessions_writable = True
        except StateUnwritable as error:
            if self.sessions_writable is not False:
                log.error("%s", error)  # noqa: TRY400, the sentence is complete
            self.sessions_writable = False
        for account in self.accounts.all():
            if account.quarantine.has_copies:  # an operator may have moved copies away
                await account.quarantine.list_copies()


_LOW_SPACE = 4  # times state.min_free_mb: below it the disk is nearly full


def _room_mb(directory: Path) -> float:
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        raise StateUnwritable(
            f"cannot determine the free space of {directory}: {error.strerror}",
            hint="the directory was moved, or its disk is not mounted: restore it, or restart wad",
        ) from error
    return disk.f_bavail * disk.f_frsize / 1e6


def _space(directories: Sequence[Path], least_mb: int) -> tuple[str, str]:
    """Why accounts have to wait for more space, and that they will soon have to; empty if there is enough.

    Raises StateUnwritable.
    """
    free_mb, directory = min((_room_mb(directory), directory) for directory in directories)
    if free_mb < least_mb:
        full = f"less than {least_mb} MB are free on the disk of {directory}: accounts wait for more space"
        return full, ""
    if free_mb < _LOW_SPACE * least_mb:
        return (
            "",
            f"{free_mb:.0f} MB are free on the disk of {directory}; accounts disconnect below {least_mb} MB",
        )
    return "", ""


def _account_options(loaded: LoadedConfig) -> AccountOptions:
    engine, inbound = loaded.config.engine, loaded.config.inbound
    return AccountOptions(
        retry_delays=RetryDelays(
            base=engine.retry_base, cap=engine.retry_cap, library=engine.connect_timeout
        ),
        pairing_window=engine.pairing_window,
        stop_timeout=engine.stop_timeout,
        batch=inbound.batch,
        retention_days=inbound.retention_days,
    )


def run(
    loaded: LoadedConfig, supervisor: Supervisor, signals: Signals, child: HttpChild | None = None
) -> int:
    """Run until a signal or a restart; return the exit code.  Raises WadError if it cannot start.

    `child`: the HTTP process that was started for it, if systemd starts none.
    """
    os.umask(0o077)
    make_undumpable()
    open_files.raise_limit()
    # How long a thread may block the event loop; Python's own 5 ms add up over all runnable threads.
    sys.setswitchinterval(_SWITCH)
    output = LogStream(sys.stderr)
    install(loaded.config.log.level, stream=output)
    start, notifier = supervisor
    for warning in loaded.warnings:
        log.warning("%s", warning)
    restarting = asyncio.run(_serve(loaded, notifier, start, signals, child))
    signals.ignore_rest()
    notifier.close()
    if restarting and not start.invocation:
        output.drain(_LAST_LINES)
        # Without systemd (Restart=always) nothing else would start us again.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return 0


async def _serve(
    loaded: LoadedConfig,
    notifier: Notifier,
    start: Start,
    signals: Signals,
    child: HttpChild | None,
) -> bool:
    config, boot_id = loaded.config, start.invocation or secrets.token_hex(8)
    for directory in (config.state.dir, config.state.sessions):
        _make_directory(directory)
        check_writable(directory)
    clock = SystemClock()
    loops = Loops(clock)
    loops.install()
    with StateLock(config.state.dir, boot_id):
        async with open_shared(config, boot_id, clock) as shared:
            await asyncio.to_thread(_watch_beginning, loaded, clock)
            try:
                progress = _upgrade_progress(notifier, signals)
                store = await _open_store(loaded, clock, loops, progress)
            except Unavailable:
                if not signals.stopped:
                    raise
                log.info("stopped before the store was open")
                return False
            try:
                # The record may be lost, or Firestore emptied: an epoch must never decrease.
                floor = await store.epoch()
                groups = _groups(config.engine.worker_memory_mb, start)
                daemon = Daemon(loaded, store, shared, clock, boot_id, floor, groups, loops)
                signals.deliver_to(_SignalEffects(daemon))
                await daemon.check_disk()
                await daemon.check_space()
                await daemon.media.open()
                await _live(daemon, notifier, start, child)
                return daemon.restarting
            finally:
                await store.close()


def _groups(memory_mb: int, start: Start) -> Groups | NoGroups:
    return divide(memory_mb) if start.invocation else NoGroups("wad was not started by systemd")


async def _live(daemon: Daemon, notifier: Notifier, start: Start, child: HttpChild | None) -> None:
    async with (
        daemon.accounts.running(),
        _listeners(daemon, start, child),
        _background_tasks(daemon, notifier),
    ):
        leader = asyncio.create_task(daemon.leader.run(daemon.lead), name="leader")
        await _first_of(daemon.leader.settled, daemon.stopping)
        log.info("wad %s is ready", __version__)
        daemon.ready = True
        notifier.status(daemon.summary())
        notifier.ready()
        await daemon.stopping.wait()
        log.info("stopping")
        notifier.stopping()
        leader.cancel()
        await asyncio.wait([leader])


@asynccontextmanager
async def _background_tasks(daemon: Daemon, notifier: Notifier) -> AsyncIterator[None]:
    """Run the background tasks during the block."""
    tasks = [
        daemon.loops.start("pulse", partial(_pulse, daemon, notifier), cap=5),
        daemon.loops.start("space", partial(_watch_space, daemon)),
        daemon.loops.start("inspection", daemon.inspection.watch),
        daemon.loops.start("measuring", daemon.inspection.measure),
        daemon.loops.start("disk", partial(_watch_disk, daemon)),
        daemon.loops.start("tidying", partial(_tidy, daemon)),
        daemon.loops.start("renewal", Renewal(daemon.accounts.all).run),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


@asynccontextmanager
async def _listeners(daemon: Daemon, start: Start, child: HttpChild | None) -> AsyncIterator[None]:
    """Serve the sockets that systemd passed, and those that only the configuration names."""
    control, http = daemon.loaded.config.control, daemon.loaded.config.http
    async with AsyncExitStack() as listeners:
        passed = start.sockets(CONTROL)
        for sock in passed:
            served = serve_control(daemon, control.socket, control.group, sock=sock)
            await listeners.enter_async_context(served)
        if str(control.socket) not in {sock.getsockname() for sock in passed}:
            await listeners.enter_async_context(
                serve_control(daemon, control.socket, control.group)
            )
        if http.enabled:
            await _serve_http(daemon, start, listeners, child)
        elif start.sockets(HTTP) or start.sockets(HTTP_CALLS):
            log.warning(
                "http.enabled is false, but systemd listens: systemctl mask --now wad-http.socket wad-http.service"
            )
        yield


async def _serve_http(
    daemon: Daemon, start: Start, listeners: AsyncExitStack, child: HttpChild | None
) -> None:
    """Serve the HTTP process of systemd, and our own if there is one."""
    config = daemon.loaded.config
    calls = HttpCalls(daemon, daemon.http_processes)
    passed = start.sockets(HTTP_CALLS)
    for sock in passed:
        await listeners.enter_async_context(serve_http_calls(daemon, calls, listener=sock))
    if passed:
        await asyncio.to_thread(publish, config.http, config.control.socket.with_name("http.json"))
    if child is not None:
        take = await listeners.enter_async_context(serve_http_calls(daemon, calls))
        process = HttpProcess(child)
        await listeners.enter_async_context(
            process.served(take, daemon.http_processes, daemon.loops)
        )


async def _pulse(daemon: Daemon, notifier: Notifier, loop: Loop) -> None:
    """Ping the watchdog while no loop hangs; that this task runs at all proves the event loop."""
    every = min(_PULSE, watchdog_interval(os.environ) or _PULSE)
    clock, reported = daemon.clock, ""
    while True:
        stuck = daemon.stuck()
        if stuck:
            log.critical("hanging loops: %s; wad sends no watchdog ping", stuck)
        else:
            notifier.watchdog()
        if (summary := daemon.summary()) != reported:
            notifier.status(summary)
            reported = summary
        daemon.problem_times.update(problems(daemon), clock.wall_ms())
        loop.progress()
        await asyncio.sleep(every)


async def _watch_space(daemon: Daemon, loop: Loop) -> None:
    while True:
        await daemon.check_space()
        loop.progress()
        await asyncio.sleep(_SPACE_EVERY)


async def _watch_disk(daemon: Daemon, loop: Loop) -> None:
    """A loop apart from the watchdog: a slow disk must not end the daemon."""
    while True:
        await asyncio.sleep(_DISK_EVERY)
        await daemon.check_disk()
        loop.progress()


async def _tidy(daemon: Daemon, loop: Loop) -> None:
    retention_ms = daemon.loaded.config.inbound.retention_days * 86_400_000
    while True:
        await tidy_media(daemon.store, daemon.media, daemon.clock.wall_ms() - retention_ms)
        loop.progress()
        await asyncio.sleep(_TIDY_EVERY)


class _SignalEffects:
    """The signals' effects: stop gracefully, the second time fast, the third time at once; reload the configuration."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def stop(self) -> None:
        """Stop gracefully; the second time wait for the release of the lease only, the third time exit at once."""
        if self._daemon.killing:
            os._exit(STOPPED)
        if self._daemon.stopping.is_set():
            self._kill()
        self._daemon.stopping.set()

    def _kill(self) -> None:
        """Stop without waiting, except for the release of the lease: without it others would wait for its whole ttl."""
        log.warning("second stop signal: killing the workers")
        self._daemon.killing = True
        self._daemon.accounts.kill()
        margin = self._daemon.loaded.config.lease.margin
        asyncio.get_running_loop().call_later(margin + _LAST_STEPS, os._exit, STOPPED)

    def reload(self) -> None:
        """Load the configuration again, and log the changes that need a restart."""
        if self._daemon.stopping.is_set():
            return
        loaded = self._daemon.loaded
        try:
            fresh = loaded.again(os.environ)
        except WadError as error:
            log.error("the configuration was not reloaded: %s", error)  # noqa: TRY400, the sentence is complete
            return
        set_level(fresh.config.log.level)
        log.info("the configuration was reloaded")
        if waiting := loaded.needs_restart(fresh):
            log.warning("these changes need a restart: %s", ", ".join(waiting))


def _make_directory(directory: os.PathLike[str]) -> None:
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103
    except OSError as error:
        raise StateUnwritable(
            f"cannot create {directory}: {error.strerror}",
            hint="create it for the user that wad runs as, or set state.dir",
        ) from error


def _watch_beginning(loaded: LoadedConfig, clock: Clock) -> None:
    state = loaded.config.state
    watch_beginning(state.dir / STORE_FILE, len(AccountDirs(state.sessions).all()), clock)


def _upgrade_progress(notifier: Notifier, signals: Signals) -> Progress:
    """Let systemd wait while the store's file is upgraded, and stop the upgrade when we are to stop.

    It is one transaction, so that the next start begins it again.
    """

    def report(seconds: float) -> bool:
        notifier.extend_timeout(round(_UPGRADE_MORE * 1e6))
        notifier.status(f"the store's file is being upgraded: {seconds:.0f} s so far")
        return not signals.stopped

    return report


async def _open_store(
    loaded: LoadedConfig, clock: Clock, loops: Loops, progress: Progress
) -> Store:
    state = loaded.config.state.dir
    try:
        return await open_store(loaded.config, clock, loops, progress)
    except Damaged as error:
        raise Damaged(
            str(error),
            hint=f"restore it from a backup, or move it away (mv {state}/wad.db {state}/wad.db.damaged): wad then"
            " creates a new one and stores the events of the spools again",
        ) from error
