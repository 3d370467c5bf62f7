"""Traps of the library inside a process: its side effects there, and how it dies.

See docs/internals/library.md#loading.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import platform
import signal
import socket
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.processes import in_a_process
from tests.support.real_world import Line, a_real_world
from tests.support.waiting import until
from tests.whatsapp.golib import library_path
from wad.core.connection import State
from wad.core.errors import EngineFailure, WadError
from wad.core.jid import Jid
from wad.core.outbox import NotSent
from wad.core.outgoing import Attachment, AttachmentKind, Text
from wad.engine.port import FoundNumber
from wad.engine.process import Process

pytestmark = pytest.mark.timeout(120)
_TGKILL, _EPOLL_PWAIT = {"x86_64": (234, 281), "aarch64": (131, 22)}[platform.machine()]
_OUTSIDE = ("socket.", "subprocess.", "os.fork", "os.system", "os.exec", "os.posix_spawn")


# --- side effects in a process ----------------------------------------------------------------


def test_loading_it_touches_nothing_outside() -> None:
    """No network, no other process, no handler of the root logger, no thread of Python."""
    code = (
        "import json, logging, sys, threading\n"
        "seen = []\n"
        "sys.addaudithook(lambda name, args: seen.append(name))\n"
        "import wad.worker.main\n"
        "from wad.worker.c_interface import Functions, shared_object\n"
        "Functions(shared_object())\n"
        "print(json.dumps([seen, len(logging.getLogger().handlers), threading.active_count()]))"
    )
    seen, handlers, threads = in_a_process(code)
    assert "ctypes.dlopen" in seen
    assert [name for name in seen if name.startswith(_OUTSIDE)] == []
    assert (handlers, threads) == (0, 1)


async def test_a_library_that_is_missing_is_not_fetched(tmp_path: Path) -> None:
    """The account reports the problem; nothing is downloaded instead."""
    package = tmp_path / "build" / "neonize"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "proto").symlink_to(library_path().parent / "proto")
    async with a_real_world(tmp_path / "wad", python_path=package.parent) as world, world.lead():
        line = await world.line(paired=False)
        await line.wad.pair()
        await until(lambda: "is missing" in line.wad.status.reason, "the reason")
        assert {path.name for path in package.iterdir()} <= {"__init__.py", "proto", "__pycache__"}


async def test_the_librarys_output_is_not_on_stdout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is logged at level debug."""
    caplog.set_level(logging.DEBUG, "wad.engine.workers")
    async with a_real_world(tmp_path) as world, world.lead():
        await world.line()
    printed = [r.levelname for r in caplog.records if "Login event: success" in r.getMessage()]
    assert printed == ["DEBUG"]
    assert capfd.readouterr().out == ""


async def test_a_workers_environment_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment contains only what it needs; no file is readable by others, although the library makes such."""
    monkeypatch.setenv("ADMIN_TOKEN", "a secret")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")  # would replace Go's own handlers
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        environ = Path(f"/proc/{line.pid}/environ").read_bytes().split(b"\0")
        assert b"NEONIZE_BOT_TAG=off" in environ
        names = {entry.partition(b"=")[0] for entry in environ}
        assert not names & {b"ADMIN_TOKEN", b"PYTHONFAULTHANDLER"}
        ident = await line.bob.send_text(line.whatsapp, "hello")
        await line.stored([ident])
        account_dir = line.wad.account_dir.path
        modes = {
            path.name: path.stat().st_mode & 0o777 for path in (account_dir, *account_dir.iterdir())
        }
        assert modes.pop(account_dir.name) == 0o700
        assert {"session.db", "session.db-wal", "spool.db"} <= modes.keys()
        assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


@contextmanager
def a_busy_neighbour(path: Path) -> Iterator[None]:
    """Another connection commits to a database all the time."""
    ended = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as db:
            number = 0
            while not ended.is_set():
                number = (number + 1) % 1000
                db.execute(f"PRAGMA user_version = {number}")
                ended.wait(0.0005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def test_how_it_opens_the_sessions_database(tmp_path: Path) -> None:
    """With a log, and transactions that others don't disturb; whatever the directory's path."""
    async with a_real_world(tmp_path / "ä #1?&%20=") as world, world.lead():
        line = await world.line()
        path = line.wad.account_dir.session_db
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("SELECT count(*) FROM whatsmeow_device").fetchone() == (1,)
        with a_busy_neighbour(path):
            idents = [await line.bob.send_text(line.whatsapp, f"text {n}") for n in range(100)]
            assert await line.stored(idents) == Counter(idents)
        assert line.wad.restarts == 0  # a worker whose session cannot be saved ends


# --- calls that crash, or may -----------------------------------------------------------------


def test_calls_before_there_is_a_client() -> None:
    """wad's calls answer with an error; it has none of the calls that would crash (get_me and the like)."""
    code = (
        "import json\n"
        "from wad.worker.c_interface import Functions, shared_object\n"
        "go = Functions(shared_object())\n"
        "go.disconnect(b'nobody')\n"
        "print(json.dumps([go.is_connected(b'nobody'), len(go.send_message(b'nobody', b'', b'')),\n"
        "    len(go.upload(b'nobody', b'data', 1)), len(go.is_on_whatsapp(b'nobody', b'+1')),\n"
        "    go.log_out(b'nobody'), go.stop(b'nobody')]))"
    )
    connected, *answers = in_a_process(code)
    assert connected is False
    assert all(answers[:4])


async def test_calls_before_it_is_paired(tmp_path: Path) -> None:
    """While a code is shown all requests are possible, and the worker lives on."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line(paired=False)
        await line.wad.pair()
        await line.code()
        pid, worker = line.pid, line.wad.worker
        assert worker is not None
        data = b"x"
        sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        (tmp_path / "media" / sha256).write_bytes(data)
        file = Attachment(kind=AttachmentKind.IMAGE, sha256=sha256, size=1, mimetype="image/png")
        to = Jid.parse(str(line.bob.pn))
        for content in (Text("hello"), file):
            result = await worker.send(to, content, b"s" * 32, 1)
            assert isinstance(result, NotSent), result
        with pytest.raises(EngineFailure):
            await worker.find_number(line.bob.pn.user)
        with pytest.raises(EngineFailure):
            await worker.log_out()
        assert line.pid == pid
        await line.whatsapp.phone.scan(line.wad.status.qr)
        await line.until(State.CONNECTED)


async def test_calls_while_it_stops(tmp_path: Path) -> None:
    """Its maps have no locks, and stopping changes them: whatever happens, the account stops, and starts again."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        worker = line.wad.worker
        assert worker is not None
        calls = [asyncio.create_task(worker.find_number(line.bob.pn.user)) for _ in range(100)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await line.wad.stop()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, FoundNumber | WadError) for answer in answers)
        assert line.wad.status.state is State.STOPPED
        logins = line.whatsapp.logins
        await line.wad.start()
        await line.connected(after=logins)


# --- how it dies ------------------------------------------------------------------------------


def go_threads(pid: int) -> list[int]:
    """Threads that certainly belong to Go: they wait for the network."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    waits = f"{_EPOLL_PWAIT} "
    return [int(task.name) for task in tasks if (task / "syscall").read_text().startswith(waits)]


async def crash(line: Line) -> None:
    """Make the library treat a fault as one of its own."""
    await until(lambda: go_threads(line.pid), "a thread in epoll_pwait")
    thread = go_threads(line.pid)[0]
    assert ctypes.CDLL(None).syscall(_TGKILL, line.pid, thread, int(signal.SIGSEGV)) == 0


async def test_a_crash_affects_one_account(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The head of Go's report is in the log; the account recovers and nothing is lost; the other one runs on."""
    async with a_real_world(tmp_path) as world, world.lead():
        line, other = await world.line(), await world.line()
        pid, others = line.pid, other.pid
        idents = [await line.bob.send_text(line.whatsapp, f"text {n}") for n in range(50)]
        await crash(line)
        await until(lambda: line.wad.worker is not None and line.pid != pid, "another worker")
        idents += [await line.bob.send_text(line.whatsapp, f"text {n}") for n in range(50, 60)]
        assert await line.stored(idents) == Counter(idents)
        assert (other.pid, other.wad.status.state) == (others, State.CONNECTED)
    (record,) = [r for r in caplog.records if "the worker crashed" in r.getMessage()]
    assert "the worker crashed: SIGSEGV: segmentation violation | PC=" in record.getMessage()
    assert "goroutine" in record.getMessage()
    assert record.__dict__["account"] == line.wad.id
    reasons = [h.text for h in world.bus.history if h.text.startswith("reconnecting")]
    assert "(SIGSEGV: segmentation violation)" in reasons[0]


async def test_a_panic_is_named() -> None:
    """Python cannot catch it; the process has ended, and its reason is Go's."""
    code = (
        "from wad.worker.c_interface import Functions, shared_object\n"
        "Functions(shared_object())._go.GetMe(b'nobody')"
    )
    ours, theirs = socket.socketpair()
    environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = Process.start([sys.executable, "-c", code], environ, theirs, lambda line: None)
    await asyncio.wait_for(process.ended, 20)
    await process.drained()
    ours.close()
    assert process.reason().startswith("the worker was killed by SIG")
    assert "(panic: runtime error: invalid memory address" in process.reason()
