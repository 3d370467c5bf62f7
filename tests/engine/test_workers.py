"""The daemon's half of the real engine, with a worker that fails on a message or a file."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.support.waiting import TIMEOUT, until
from wad.core import connection, wire
from wad.core.errors import EngineFailure, TimedOut
from wad.core.jid import Jid
from wad.core.outbox import NotSent, Refused, Sent, Unknown
from wad.core.outgoing import Attachment, AttachmentKind, Text
from wad.engine import worker as worker_requests
from wad.engine.lost_messages import Comparison
from wad.engine.port import EngineOptions, Report
from wad.engine.process import Process
from wad.engine.worker import NeonizeWorker
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.state.account_dir import AccountDir

BOB = Jid.parse("15550000002@s.whatsapp.net")
SECRET = b"s" * 32
FILE = Attachment(kind=AttachmentKind.IMAGE, sha256="0" * 64, size=1, mimetype="image/png")
WORKER = """
import socket, sys, time
from wad.core import wire
from wad.core.errors import Damaged, EngineFailure, NotFound, Unavailable
sock = socket.socket(fileno=int(sys.argv[1]))
decoder = wire.Decoder()
while data := sock.recv(1 << 16):
    for frame in decoder.feed(data):
        error = result = None
        act = {acts}[frame.method]
        if act == "hang":
            continue
        if act == "die":
            sys.exit(1)
        if act == "synced":
            sock.sendall(wire.encode(wire.Notice(act, [])))
            sys.exit(1)
        if act == "replaced":
            for notice in wire.Notice(act, []), wire.Notice("ending", ["replaced by another client"]):
                sock.sendall(wire.encode(notice))
            sys.exit(3)
        if isinstance(act, Exception):
            error = act
        else:
            result = act
        sock.sendall(wire.encode(wire.Response(frame.id, error, result)))
"""


@asynccontextmanager
async def a_worker(
    directory: Path,
    report: Callable[[Report], None] = lambda report: None,
    comparison: Comparison | None = None,
    **acts: str,
) -> AsyncIterator[NeonizeWorker]:
    """A worker that answers each method with an expression, hangs on it, or dies of it."""
    ours, theirs = socket.socketpair()
    shown = "{" + ", ".join(f"{name!r}: {act}" for name, act in acts.items()) + "}"
    argv = [sys.executable, "-c", WORKER.replace("{acts}", shown), str(theirs.fileno())]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = Process.start(argv, environ, theirs, lambda line: None)
    reader, writer = await asyncio.open_connection(sock=ours)
    worker = NeonizeWorker(
        AccountDir(directory),
        process,
        reader,
        writer,
        report,
        EngineOptions(directory),
        comparison,
    )
    try:
        yield worker
    finally:
        await worker.stop(0)


def a_device(directory: Path) -> None:
    """An existing session: a message that its list does not contain was not sent."""
    with closing(sqlite3.connect(directory / "session.db")) as db:
        db.execute("CREATE TABLE whatsmeow_device (jid TEXT, noise_key BLOB)")
        db.execute("INSERT INTO whatsmeow_device VALUES ('15550000001:1@s.whatsapp.net', 'key')")
        db.commit()


def note(directory: Path, wa_id: str) -> None:
    """What the library writes before it sends anything."""
    with closing(sqlite3.connect(directory / "session.db")) as db:
        db.execute("CREATE TABLE whatsmeow_message_secrets (message_id TEXT, key BLOB)")
        db.execute("INSERT INTO whatsmeow_message_secrets VALUES (?,?)", (wa_id, SECRET))
        db.commit()


@pytest.mark.parametrize(
    "act",
    ["'die'", "EngineFailure('broken')", "NotFound('unknown')"],
    ids=["dies", "fails", "odd"],
)
@pytest.mark.parametrize("left", [False, True])
async def test_a_worker_that_fails_on_a_message(tmp_path: Path, act: str, left: bool) -> None:
    """Whether it dies of it or only reports it: the trace in the session's database decides."""
    a_device(tmp_path)
    if left:
        note(tmp_path, "WA1")
    async with a_worker(tmp_path, send=act) as worker:
        result = await worker.send(BOB, Text("hello"), SECRET, 1)
        if left:
            assert isinstance(result, Unknown)
            assert result.wa_id == "WA1"
        else:
            assert isinstance(result, NotSent)


async def test_unreadable_traces_prove_nothing(tmp_path: Path) -> None:
    """It is uncertain, and not sent again."""
    (tmp_path / "session.db").write_bytes(b"no database at all" * 100)
    async with a_worker(tmp_path, send="'die'") as worker:
        result = await worker.send(BOB, Text("hello"), SECRET, 1)
        assert isinstance(result, Unknown)
        assert "damaged" in result.why


@pytest.mark.parametrize("wa_id", ["", "WA1"])
async def test_a_worker_that_hangs_on_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wa_id: str
) -> None:
    """It may still be sent, with or without a trace."""
    monkeypatch.setattr(worker_requests, "_SEND_TIMEOUT", 0.05)
    if wa_id:
        note(tmp_path, wa_id)
    async with a_worker(tmp_path, send="'hang'") as worker:
        result = await worker.send(BOB, Text("hello"), SECRET, 1)
        assert isinstance(result, Unknown)
        assert result.wa_id == wa_id


async def test_an_upload_that_hangs_ends_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else ends it; the message was not sent."""
    monkeypatch.setattr(worker_requests, "_UPLOAD_TIMEOUT", 0.05)
    async with a_worker(tmp_path, upload="'hang'") as worker:
        result = await worker.send(BOB, FILE, SECRET, 1)
        assert isinstance(result, NotSent)
        assert result.died
        assert "upload" in await worker.ended


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        ("NotFound('no file')", Refused),
        ("Damaged('other bytes')", Refused),
        ("EngineFailure('upload failed with status code 500')", NotSent),
        ("'die'", NotSent),
    ],
)
async def test_an_upload_that_fails(tmp_path: Path, act: str, kind: type) -> None:
    """A missing file will not appear later; after any other error it is tried again."""
    async with a_worker(tmp_path, upload=act) as worker:
        assert isinstance(await worker.send(BOB, FILE, SECRET, 1), kind)


@pytest.mark.parametrize(
    ("act", "unrelated"),
    [
        ("'die'", True),
        ("Unavailable('cannot read it: Input/output error')", True),
        ("EngineFailure('failed to store: database is locked')", True),
        ("EngineFailure('upload failed with status code 500')", False),
    ],
)
async def test_which_errors_count_as_attempts(tmp_path: Path, act: str, unrelated: bool) -> None:
    """A worker that has ended, or a disk that refuses, does not count as an attempt."""
    async with a_worker(tmp_path, upload=act) as worker:
        result = await worker.send(BOB, FILE, SECRET, 1)
        assert isinstance(result, NotSent)
        assert result.unrelated == unrelated


@pytest.mark.parametrize("what", ["text", "file"])
async def test_a_crash_during_a_message_is_counted(tmp_path: Path, what: str) -> None:
    """For a worker that crashed, and not for one that had ended before."""
    a_device(tmp_path)
    content = FILE if what == "file" else Text("hello")
    async with a_worker(tmp_path, send="'die'", upload="'die'") as worker:
        result = await worker.send(BOB, content, SECRET, 1)
        assert isinstance(result, NotSent)
        assert result.died
        again = await worker.send(BOB, content, SECRET, 1)
        assert isinstance(again, NotSent)
        assert not again.died


@pytest.mark.parametrize("act", ["'replaced'", "'hang'"])
async def test_an_end_without_a_fault_is_not_counted(tmp_path: Path, act: str) -> None:
    """The worker reported why it ended, or was killed, while it had the message."""
    a_device(tmp_path)
    async with a_worker(tmp_path, send=act) as worker:
        sending = asyncio.create_task(worker.send(BOB, Text("hello"), SECRET, 1))
        await until(lambda: worker._frames._pending, "the call")
        if act == "'hang'":
            await worker.stop(0)
        result = await sending
        assert isinstance(result, NotSent)
        assert not result.died


async def test_a_file_is_uploaded_and_then_sent(tmp_path: Path) -> None:
    """The second call carries the answer of the first."""
    async with a_worker(
        tmp_path, upload="['u', '/u', b'', b'', b'', 1, 1]", send="['sent', 'WA1', 7, '']"
    ) as worker:
        assert await worker.send(BOB, FILE, SECRET, 1) == Sent("WA1", 7)


async def test_a_workers_last_frames_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Although it had ended, with our frames unread, before we read its frames."""
    reports: list[Report] = []
    async with a_worker(tmp_path, reports.append, word="'replaced'") as worker:
        assert worker.pid is not None
        worker._frames._writer.write(wire.encode(wire.Request(1, "word", [])))
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        worker.permit(SystemClock().monotonic() + 1)
        assert await worker.ended == "replaced by another client"
        assert reports == [connection.Replaced()]
        assert "lost its connection" not in caplog.text


async def test_a_failing_check_for_lost_messages_blocks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Any error in it is reported, and the worker's end is detected."""

    def fail() -> None:
        raise ValueError("a fault of ours")

    comparison = Comparison(AccountDir(tmp_path), SystemClock())
    monkeypatch.setattr(comparison, "run", fail)
    async with a_worker(tmp_path, comparison=comparison, word="'synced'") as worker:
        worker._frames._writer.write(wire.encode(wire.Request(1, "word", [])))
        async with asyncio.timeout(30):
            assert "code 1" in await worker.ended
    assert "check for lost messages failed" in caplog.text


@pytest.mark.parametrize("part", ["_wait_for_end", "_report_damage", "_supervise"])
async def test_after_any_error_the_workers_end_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """No caller waits forever: the process is dead, and each request is answered."""

    async def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(NeonizeWorker, part, fail)
    async with a_worker(tmp_path, log_out="'hang'") as worker:
        asking = asyncio.ensure_future(worker.log_out())
        async with asyncio.timeout(TIMEOUT):
            await asyncio.sleep(0)
            if part == "_report_damage":
                await worker.stop(0)
            assert "the worker was killed" in await worker.ended or part != "_wait_for_end"
            with pytest.raises(EngineFailure):
                await asking


async def test_a_probe_that_fails_unexpectedly_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that hangs is detected all the same."""
    tries = 0

    async def call(self: NeonizeWorker, method: str, *_: object, timeout: float) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError("x")
        raise TimedOut("no answer")

    monkeypatch.setattr(NeonizeWorker, "_call", call)
    ours, theirs = socket.socketpair()
    loops = Loops(SystemClock())
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    argv = [sys.executable, "-c", "import time; time.sleep(3600)"]
    process = Process.start(argv, environ, theirs, lambda line: None)
    reader, writer = await asyncio.open_connection(sock=ours)
    options = EngineOptions(tmp_path, probe_every=0.01, loops=loops)
    worker = NeonizeWorker(
        AccountDir(tmp_path), process, reader, writer, lambda report: None, options, None
    )
    async with asyncio.timeout(TIMEOUT):
        assert "did not answer" in await worker.ended
        await writer.wait_closed()
    assert (loops.counts["probe", tmp_path.name].faults, tries) == (1, 2)


@pytest.mark.parametrize(("starved", "expected"), [(0.0, 1), (1.0, 6)])
async def test_a_worker_that_waits_for_a_processor_is_given_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starved: float, expected: int
) -> None:
    """On an overloaded machine a new one would be no faster; but one that never answers is killed in the end."""
    tries, waited = 0, 0.0

    async def call(self: NeonizeWorker, method: str, *_: object, timeout: float) -> None:
        nonlocal tries, waited
        tries += 1
        waited += starved * timeout
        raise TimedOut("no answer")

    monkeypatch.setattr(NeonizeWorker, "_call", call)
    monkeypatch.setattr("wad.engine.supervision.starved_of", lambda pid: waited)
    async with a_worker(tmp_path) as worker:
        with pytest.raises(TimedOut):
            await worker._call_patiently("probe", 20.0)
        assert tries == expected
