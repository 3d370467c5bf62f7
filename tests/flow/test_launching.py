"""A worker that cannot be started: whatever the kernel refuses, only that account is affected."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import Daemon
from tests.support.fake_daemon import FakeClock
from tests.whatsapp import WhatsApp
from wad.core import wire
from wad.core.errors import EngineFailure, WadError
from wad.engine.port import EngineOptions, LibraryLoaded, Report, Worker
from wad.engine.process import Process, session_nice, spawn
from wad.engine.workers import NeonizeEngine
from wad.state.account_dir import AccountDir
from wad.systemd.cgroups import Groups
from wad.worker.link import Permission
from wad.worker.requests import RequestReader

SCARCE = [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC]


def refuse(number: int) -> Callable[..., Any]:
    """A call that the kernel refuses."""

    def refused(*_args: object, **_options: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refused


def handles() -> set[str]:
    """The open files of this process, except those that the check itself opens."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{fd.name} {fd.readlink()}")
        except FileNotFoundError:  # the directory itself
            continue
    return found


def children() -> set[str]:
    """The unreaped child processes of this process; other tests may have left some, such as an emulator."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture
def account_dir(tmp_path: Path) -> AccountDir:
    """Of an account without a session."""
    found = AccountDir(tmp_path / "acc-1")
    found.path.mkdir()
    return found


def no_pidfd(patch: pytest.MonkeyPatch, number: int) -> None:
    """The process runs, without a handle for it."""
    patch.setattr(os, "pidfd_open", refuse(number))


def no_fork(patch: pytest.MonkeyPatch, number: int) -> None:
    """The process, or the pipe to it, is missing."""
    patch.setattr(subprocess, "Popen", refuse(number))


def no_socketpair(patch: pytest.MonkeyPatch, number: int) -> None:
    """The socket to it is missing."""
    patch.setattr(socket, "socketpair", refuse(number))


def no_second_handle(patch: pytest.MonkeyPatch, number: int) -> None:
    """One handle is left, and two are needed."""
    patch.setattr(socket.socket, "dup", refuse(number))


def no_watch(patch: pytest.MonkeyPatch, number: int) -> None:
    """epoll takes no more."""
    patch.setattr(asyncio.get_running_loop(), "add_reader", refuse(number))


def no_stream(patch: pytest.MonkeyPatch, number: int) -> None:
    """The event loop does not accept the socket."""
    patch.setattr(asyncio, "open_connection", refuse(number))


POINTS = [no_socketpair, no_second_handle, no_fork, no_pidfd, no_stream, no_watch]


@pytest.mark.parametrize("number", SCARCE, ids=[errno.errorcode[number] for number in SCARCE])
@pytest.mark.parametrize("point", POINTS)
async def test_any_refusal_of_the_kernel_is_the_accounts_reason(
    account_dir: AccountDir, point: Callable[[pytest.MonkeyPatch, int], None], number: int
) -> None:
    """A sentence, no process, no open handle; and the next start works."""
    engine = NeonizeEngine(EngineOptions(media=account_dir.path.parent / "media"))
    reports: list[Report] = []
    before, others = handles(), children()
    with pytest.MonkeyPatch.context() as patch:
        point(patch, number)
        with pytest.raises(EngineFailure, match="cannot start a worker") as caught:
            await engine.launch(account_dir, reports.append, 60.0)
    if number == errno.EMFILE:
        assert "LimitNOFILE" in str(caught.value)
    await asyncio.sleep(0)  # transports close in the next turn of the loop
    assert children() <= others
    assert handles() == before
    worker = await engine.launch(account_dir, reports.append, 60.0)
    await worker.stop(0)
    assert reports == []


async def test_output_that_cannot_be_read_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is not emptied would block it eventually, silently."""
    monkeypatch.setattr(asyncio.get_running_loop(), "connect_read_pipe", refuse(errno.EMFILE))
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = Process.start(argv, {"PATH": "/usr/bin:/bin"}, theirs, lambda line: None)
    assert await asyncio.wait_for(process.ended, 30) == -signal.SIGKILL
    await process.drained()
    ours.close()


async def test_a_cancelled_start_leaves_no_worker(account_dir: AccountDir) -> None:
    """The thread starts it all the same; then it is killed."""
    engine = NeonizeEngine(EngineOptions(media=account_dir.path.parent / "media"))
    before, others = handles(), children()
    launching = asyncio.create_task(engine.launch(account_dir, lambda report: None, 60.0))
    await asyncio.sleep(0)
    launching.cancel()
    await asyncio.gather(launching, return_exceptions=True)
    assert children() <= others
    assert handles() == before


async def test_an_end_by_a_signal_without_a_name() -> None:
    """Real-time signals have only numbers."""
    ours, theirs = socket.socketpair()
    code = f"import os; os.kill(os.getpid(), {int(signal.SIGRTMIN) + 1})"
    argv = [sys.executable, "-c", code]
    process = Process.start(argv, {"PATH": "/usr/bin:/bin"}, theirs, lambda line: None)
    await asyncio.wait_for(process.ended, 30)
    await process.drained()
    assert process.reason() == f"the worker was killed by signal {int(signal.SIGRTMIN) + 1}"
    ours.close()


async def test_a_grandchild_that_holds_the_pipe_blocks_nothing() -> None:
    """Its end is its own; its remaining output is not waited for."""
    ours, theirs = socket.socketpair()
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)"
    argv = [sys.executable, "-c", f"{code}; import os; os._exit(7)"]
    process = Process.start(argv, {"PATH": "/usr/bin:/bin"}, theirs, lambda line: None)
    assert await asyncio.wait_for(process.ended, 30) == 7
    await asyncio.wait_for(process.drained(timeout=0.1), 30)
    assert process.reason() == "the worker ended with code 7"
    ours.close()


def test_a_process_without_its_control_group_is_ended() -> None:
    """Its control group is set before everything else."""

    def fail(_pid: int) -> None:
        raise ValueError("no place")

    others = children()
    ours, theirs = socket.socketpair()
    with pytest.raises(ValueError, match="no place"):
        spawn([sys.executable, "-c", "input()"], {}, theirs, fail)
    assert children() <= others
    ours.close()


async def loaded(engine: NeonizeEngine, account_dir: AccountDir) -> Worker:
    """A worker that has loaded the library."""
    over = asyncio.Event()
    worker = await engine.launch(
        account_dir, lambda report: over.set() if isinstance(report, LibraryLoaded) else None, 60.0
    )
    async with asyncio.timeout(30):
        await over.wait()
    return worker


async def test_a_worker_has_lower_priority_than_the_daemon(account_dir: AccountDir) -> None:
    """Once it has loaded: maximal niceness, and its session as nice as hundreds have to be."""
    media = account_dir.path.parent / "media"
    engine = NeonizeEngine(EngineOptions(media=media, accounts=lambda: 300))
    worker = await loaded(engine, account_dir)
    assert worker.pid is not None
    weight = Path(f"/proc/{worker.pid}/autogroup")  # of whole sessions, if the kernel has it
    async with asyncio.timeout(30):
        while os.getpriority(os.PRIO_PROCESS, worker.pid) != 19:
            await asyncio.sleep(0.01)
        while weight.exists() and not weight.read_text().endswith("nice 19\n"):
            await asyncio.sleep(0.01)
    assert os.getsid(worker.pid) != os.getsid(0), "Ctrl-C is for the daemon"
    await worker.stop(0)


def test_all_workers_together_leave_the_daemon_its_share() -> None:
    """However many there are; and a few are as fast as any other program on the machine."""
    nice = [session_nice(together) for together in range(1000)]
    assert nice[:5] == [0] * 5
    assert nice == sorted(nice)
    assert max(nice) == 19
    for together in range(1, 280):
        weight = together * 1.25 ** -session_nice(together)
        assert min(together, 3.2) <= weight <= 4.1


async def test_a_worker_in_a_weighted_group_keeps_its_priority(
    account_dir: AccountDir, tmp_path: Path
) -> None:
    """Once is enough."""
    base = tmp_path / "wad.service"
    base.mkdir()
    engine = NeonizeEngine(EngineOptions(media=tmp_path / "media", groups=Groups(base, 0)))
    worker = await loaded(engine, account_dir)
    assert worker.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, worker.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    assert (base / "worker-acc-1" / "cgroup.procs").read_text() == str(worker.pid)
    await worker.stop(0)


# --- the daemon on a machine that is short of handles ---------------------------------------------------

_ACCOUNTS = 7


@pytest.mark.parametrize(("limit", "some"), [(40, False), (64, True)])
async def test_a_daemon_without_handles_answers_and_stops(
    tmp_path: Path, limit: int, some: bool
) -> None:
    """`ulimit -n` and seven accounts: an account without a worker has a reason, the daemon answers, and it stops."""
    async with WhatsApp() as server:
        daemon = Daemon(tmp_path / "wad", server.environment())
        await daemon.start()
        for number in range(_ACCOUNTS):
            await daemon.call("accounts.add", name=f"a{number}", phone=f"+1555000000{number}")
        await daemon.end()
        daemon.command = ["/bin/sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *daemon.command]
        await daemon.start()
        try:
            for number in range(_ACCOUNTS):
                with suppress(
                    WadError
                ):  # it may not even be able to check whether there is a session
                    await daemon.call("accounts.pair", account=f"a{number}")

            async def settled() -> bool:
                shown = await daemon.call("accounts.list")
                seen[:] = [(one["state"], one["reason"], bool(one["qr"])) for one in shown]
                refused = [one for one in shown if "LimitNOFILE" in one["reason"]]
                return bool(refused) and any(one["qr"] for one in shown) >= some

            seen: list[object] = []
            try:
                async with asyncio.timeout(60):
                    while not await settled():
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise AssertionError(f"{seen}\n{daemon.log.read_text()[-3000:]}") from None
            assert (await daemon.call("status"))["lease"]["mode"] == "active"
            assert await daemon.end() == 0
        finally:
            if daemon.process is not None:
                daemon.process.kill()
                daemon.process.wait()


# --- the permission to act, on a slow machine -----------------------------------------------------------


def test_a_renewal_during_loading_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading took longer than the first permission; the lease was renewed meanwhile."""
    ended: list[int] = []
    monkeypatch.setattr("wad.worker.link.os._exit", ended.append)
    clock = FakeClock()
    ours, theirs = socket.socketpair()
    permission = Permission(1012.0, clock)
    reader = RequestReader(theirs, permission)
    for until in (1017.0, 1022.0, 1027.0):
        ours.sendall(wire.encode(wire.Notice("until", [until])))
    ours.sendall(wire.encode(wire.Request(1, "probe", [])))
    clock.now = 1020.0
    reader.read_pending()
    permission.watch()
    assert ended == []
    assert next(reader.requests()).method == "probe"
    for sock in (ours, theirs):
        sock.close()


class Ticking(FakeClock):
    """A clock that advances with each read."""

    def monotonic(self) -> float:
        """Seconds."""
        self.now += 0.2
        return self.now


def test_an_unread_renewal_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the thread that checks the clock may run before the reader; requests are kept."""

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("wad.worker.link.os._exit", end)
    clock = Ticking()
    ours, theirs = socket.socketpair()
    permission = Permission(1000.1, clock)
    reader = RequestReader(theirs, permission)
    ours.sendall(wire.encode(wire.Notice("until", [1002.0])))
    ours.sendall(wire.encode(wire.Request(1, "probe", [])))
    with pytest.raises(SystemExit):
        permission._watch(reader.read_pending)
    assert 1002.0 <= clock.now < 1003.0
    assert next(reader.requests()).method == "probe"
    for sock in (ours, theirs):
        sock.close()


def test_a_permission_that_ran_out_during_loading_is_invalid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ends before it has acted, however late it is."""
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)
        raise SystemExit(code)

    monkeypatch.setattr("wad.worker.link.os._exit", end)
    clock = FakeClock()
    permission = Permission(1012.0, clock)
    clock.now = 1012.0
    with pytest.raises(SystemExit):
        permission.watch()
    assert ended == [4]
