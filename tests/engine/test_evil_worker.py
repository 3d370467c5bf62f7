"""A compromised worker: whatever it sends, it is replaced at once, and the daemon continues."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.test_workers import a_device
from wad.core import connection, wire
from wad.core.errors import EngineFailure, InvalidData, WadError
from wad.core.jid import Jid
from wad.core.library_errors import LONGEST_BAN, ban, ban_seconds
from wad.core.outbox import NotSent, Unknown
from wad.core.outgoing import Attachment, AttachmentKind, Text
from wad.engine import notices, resolver_files
from wad.engine.port import (
    Confinement,
    EngineOptions,
    FileDamaged,
    FoundNumber,
    Identity,
    LibraryLoaded,
    Report,
    Spooled,
)
from wad.engine.process import Process
from wad.engine.worker import NeonizeWorker
from wad.state.account_dir import AccountDir

BOB = Jid.parse("15550000002@s.whatsapp.net")
SECRET = b"s" * 32
PICTURE = Attachment(kind=AttachmentKind.IMAGE, sha256="0" * 64, size=1, mimetype="image/png")
WITHIN = 60  # seconds; far less than without detection, since the probe is switched off

SAYS = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sock = socket.socket(fileno=int(sys.argv[1]))
with open(sys.argv[2], "rb") as frames:
    sock.sendall(frames.read())
time.sleep(600)
"""
"""Sends the content of a file, and stays."""

ANSWERS = """
import socket, sys, time
sock = socket.socket(fileno=int(sys.argv[1]))
answer = open(sys.argv[2], "rb").read()
sock.recv(1 << 16)
sock.sendall(answer)
time.sleep(600)
"""
"""Answers the first request with the content of a file, and stays."""


@asynccontextmanager
async def a_worker(
    directory: Path,
    code: str,
    frames: bytes = b"",
    report: Callable[[Report], None] = lambda _: None,
) -> AsyncIterator[NeonizeWorker]:
    """A worker with this code, without probes."""
    said = directory / "frames"
    said.write_bytes(frames)
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", code, str(theirs.fileno()), str(said)]
    process = Process.start(argv, {"PATH": os.environ["PATH"]}, theirs, lambda line: None, "acc-1")
    reader, writer = await asyncio.open_connection(sock=ours)
    options = EngineOptions(directory, probe_every=3600)
    worker = NeonizeWorker(AccountDir(directory), process, reader, writer, report, options, None)
    try:
        yield worker
    finally:
        await worker.stop(0)


def framed(shape: Any) -> bytes:
    """Anything as a frame."""
    return in_frame(msgpack.packb(shape))


def in_frame(body: bytes) -> bytes:
    """Any bytes as a frame."""
    return len(body).to_bytes(4, "big") + body


INVALID = {
    "no frame": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "no MessagePack": in_frame(b"\xc1"),
    "empty": in_frame(b""),
    "too long": (1 << 30).to_bytes(4, "big"),
    "empty maps": in_frame(b"\x93\x02\xa1m\xdd\x00\x3f\x00\x00" + b"\x80" * 0x3F0000),
    "deep": in_frame(b"\x93\x02\xa4held" + b"\x91" * 900 + b"\xc0"),
    "deep error": in_frame(b"\x94\x01\x01" + b"\x91" * 900 + b"\xc0\xc0"),
    "surrogate": in_frame(b"\x93\x02\xa4held\x91\xa3\xed\xa0\x80"),
    "a request": framed([0, 1, "probe", []]),
    "an item": framed([3, 1, 7]),
    "an answer to nothing": framed([1, 1, None, True]),
    "an answer to 2**64-1": framed([1, 2**64 - 1, None, True]),
    "an answer to true": framed([1, True, None, True]),
    "an answer to 0": framed([1, 0, None, True]),
    "unknown notice": framed([2, "explode", []]),
    "no list": framed([2, "held", "x"]),
    "a map": framed([2, "held", {"why": "x"}]),
    "too many": framed([2, "paired", [1]]),
    "too few": framed([2, "banned", [1]]),
    "text for a number": framed([2, "banned", ["soon", "x"]]),
    "NaN": framed([2, "banned", [float("nan"), "x"]]),
    "infinity": framed([2, "banned", [float("inf"), "x"]]),
    "10**300": framed([2, "banned", [1e300, "x"]]),
    "negative": framed([2, "banned", [-1, "x"]]),
    "a thousand years": framed([2, "banned", [LONGEST_BAN + 1, "x"]]),
    "true for a number": framed([2, "spooled", [True]]),
    "row -1": framed([2, "spooled", [-1]]),
    "row 2**64-1": framed([2, "spooled", [2**64 - 1]]),
    "a huge reason": framed([2, "lost", ["x" * 1_000_000]]),
    "bytes for text": framed([2, "lost", [b"\xff"]]),
    "nothing for text": framed([2, "held", [None]]),
    "a huge code": framed([2, "qr", ["x" * 5000]]),
    "a code of controls": framed([2, "qr", ["\x1b[2J"]]),
    "an unknown guarantee": framed([2, "receipts", ["never", ""]]),
    "confined by text": framed([2, "confined", ["7", True, [], ""]]),
    "confined by a negative number": framed([2, "confined", [-1, True, [], ""]]),
    "confined with many reasons": framed([2, "confined", [7, True, ["x"] * 1000, ""]]),
    "confined with a huge reason": framed([2, "confined", [7, True, ["x" * 100_000], ""]]),
    "another file": framed([2, "damaged", ["../../wad.db", "x"]]),
    "the card": framed([2, "damaged", ["account.json", "x"]]),
    "a flood of notices": framed([2, "paired", []]) * 1000,
    "a flood of frames": framed([2, "spooled", [1]]) * 20_000,
}


@pytest.mark.parametrize("name", INVALID)
async def test_a_worker_that_breaks_the_protocol_is_ended_at_once(
    tmp_path: Path, name: str
) -> None:
    """It is killed without a wait for a probe, and this is in the reason."""
    async with a_worker(tmp_path, SAYS, INVALID[name]) as worker:
        why = await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)
    assert why.startswith("the worker sent an invalid frame: ")
    assert len(why) < 500


async def test_frames_before_an_invalid_one_count(tmp_path: Path) -> None:
    """Frames are processed in order, up to the first invalid one."""
    reports: list[Report] = []
    frames = framed([2, "lost", ["gone"]]) + framed([2, "nonsense", []]) + framed([2, "paired", []])
    async with a_worker(tmp_path, SAYS, frames, reports.append) as worker:
        await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)
    assert reports == [connection.Lost("gone")]


HANGS_UP = "import os, sys, time; os.close(int(sys.argv[1])); time.sleep(600)"
LEAVES_A_CHILD = """
import os, sys, time
if os.fork() == 0:
    time.sleep(600)
os._exit(7)
"""


async def test_a_worker_that_hangs_up_is_ended(tmp_path: Path) -> None:
    """A worker without a connection is useless."""
    async with a_worker(tmp_path, HANGS_UP) as worker:
        assert (
            await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)
            == "the worker closed its connection"
        )


async def test_a_child_of_its_own_does_not_keep_it_alive(tmp_path: Path) -> None:
    """Its end is detected although another process still has its pipes."""
    async with a_worker(tmp_path, LEAVES_A_CHILD) as worker:
        pid = worker.pid
        assert pid is not None
        why = await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)
        assert why == "the worker ended with code 7"
        os.killpg(pid, 9)


ANSWERED: dict[str, Any] = {
    "nothing": None,
    "a number": 7,
    "an empty list": [],
    "an unknown result": ["maybe", 1],
    "no id": ["sent", "", 1],
    "a huge id": ["sent", "x" * 100_000, 1],
    "an id with NUL": ["sent", "a\0b", 1],
    "bytes as id": ["sent", b"\xff", 1],
    "a late time": ["sent", "WA1", 2**63],
    "an early time": ["sent", "WA1", -1],
    "true as time": ["sent", "WA1", True],
    "too many": ["sent", "WA1", 1, 2],
    "a number for a text": ["failed", 7],
}


@pytest.mark.parametrize("name", ANSWERED)
@pytest.mark.parametrize("left", [False, True])
async def test_an_invalid_answer_about_a_message(tmp_path: Path, name: str, left: bool) -> None:
    """The worker is replaced, and the message's result is settled by its traces."""
    a_device(tmp_path)
    if left:
        with closing(sqlite3.connect(tmp_path / "session.db")) as db:
            db.execute("CREATE TABLE whatsmeow_message_secrets (message_id TEXT, key BLOB)")
            db.execute("INSERT INTO whatsmeow_message_secrets VALUES ('WA1',?)", (SECRET,))
            db.commit()
    async with a_worker(tmp_path, ANSWERS, framed([1, 1, None, ANSWERED[name]])) as worker:
        result = await asyncio.wait_for(worker.send(BOB, Text("hi"), SECRET, 1), WITHIN)
        assert isinstance(result, Unknown if left else NotSent)
        why = await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)
        assert why.startswith("the worker sent an invalid frame: the answer to 'send'")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        ["u"],
        ["u" * 100_000, "/u", b"", b"", b"", 1, 1],
        ["u", "/u", b"", b"", b"", -1, 1],
        {"url": "u"},
    ],
)
async def test_an_invalid_answer_about_a_file(tmp_path: Path, answer: Any) -> None:
    """Nothing was sent, and the worker is replaced."""
    async with a_worker(tmp_path, ANSWERS, framed([1, 1, None, answer])) as worker:
        result = await asyncio.wait_for(worker.send(BOB, PICTURE, SECRET, 1), WITHIN)
        assert isinstance(result, NotSent)
        assert "invalid frame" in await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)


@pytest.mark.parametrize(
    "answer",
    [
        True,
        {"15550000002": True},
        ["1@lid"],
        ["", ""],
        ["1@lid", 2],
        ["not an address", ""],
        ["120363@g.us", ""],
        ["1@s.whatsapp.net", "1@lid"],
        ["", "1@lid"],
    ],
)
async def test_an_invalid_answer_about_a_phone_number(tmp_path: Path, answer: Any) -> None:
    """It is an error, and the worker is replaced."""
    async with a_worker(tmp_path, ANSWERS, framed([1, 1, None, answer])) as worker:
        with pytest.raises(EngineFailure, match="invalid frame"):
            await asyncio.wait_for(worker.find_number("15550000002"), WITHIN)
        await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (None, None),
        (["9:3@lid", ""], FoundNumber(Jid("9", "lid"), None)),
        (["", "1@c.us"], FoundNumber(None, Jid("1", "s.whatsapp.net"))),
    ],
)
async def test_the_answer_about_a_phone_number(
    tmp_path: Path, answer: Any, found: FoundNumber | None
) -> None:
    """Not there, or its addresses without a device."""
    async with a_worker(tmp_path, ANSWERS, framed([1, 1, None, answer])) as worker:
        assert await asyncio.wait_for(worker.find_number("15550000002"), WITHIN) == found


@pytest.mark.parametrize("code", ["fenced", "instance_passive", "timed_out", "denied", "x"])
async def test_an_error_that_is_not_a_workers_to_raise(tmp_path: Path, code: str) -> None:
    """A worker cannot raise errors about the lease, the daemon's time, or permissions."""
    frames = framed([1, 1, {"code": code, "message": "no"}, None])
    async with a_worker(tmp_path, ANSWERS, frames) as worker:
        with pytest.raises(WadError) as raised:
            await asyncio.wait_for(worker.find_number("15550000002"), WITHIN)
    assert type(raised.value) is EngineFailure


async def test_a_session_is_checked_before_it_is_quarantined(tmp_path: Path) -> None:
    """Whether it is damaged is checked once the worker has ended."""
    with closing(sqlite3.connect(tmp_path / "session.db")) as db:
        db.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
        db.commit()
    reports: list[Report] = []
    code = SAYS.replace("time.sleep(600)", "sys.exit(6)")
    frames = framed([2, "damaged", ["session.db", "it says so"]])
    async with a_worker(tmp_path, code, frames, reports.append) as worker:
        assert await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN) == "it says so"
    assert reports == []
    (tmp_path / "session.db").write_bytes(b"no database at all" * 100)
    async with a_worker(tmp_path, code, frames, reports.append) as worker:
        await asyncio.wait_for(asyncio.shield(worker.ended), WITHIN)
    assert reports == [FileDamaged("session.db", "it says so")]


@pytest.mark.parametrize("jid", ["", "nonsense", "x" * 1_000_000, "1@s.whatsapp.net"])
async def test_a_login_with_a_session_without_an_identity(tmp_path: Path, jid: str) -> None:
    """It is logged in, under whatever address."""
    with closing(sqlite3.connect(tmp_path / "session.db")) as db:
        db.execute("CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT)")
        db.execute("INSERT INTO whatsmeow_device VALUES (?,'',?)", (jid, "n" * 1_000_000))
        db.commit()
    reports: asyncio.Queue[Report] = asyncio.Queue()
    frames = framed([2, "connected", []])
    async with a_worker(tmp_path, SAYS, frames, reports.put_nowait):
        async with asyncio.timeout(WITHIN):
            while not isinstance(report := await reports.get(), connection.Connected):
                assert isinstance(report, Identity)
                assert len(report.push_name) == 1000


async def test_a_login_with_a_session_that_does_not_end(tmp_path: Path) -> None:
    """A view in place of the device's table is not queried, and the event loop is not blocked meanwhile."""
    with closing(sqlite3.connect(tmp_path / "session.db")) as db:
        db.execute(
            "CREATE VIEW whatsmeow_device (jid, lid, push_name) AS WITH RECURSIVE c(x) AS"
            " (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x, x, x FROM c WHERE x < 0"
        )
        db.commit()
    reports: asyncio.Queue[Report] = asyncio.Queue()
    frames = framed([2, "connected", []]) * 20
    async with a_worker(tmp_path, SAYS, frames, reports.put_nowait), asyncio.timeout(WITHIN):
        for _ in range(20):
            assert await reports.get() == connection.Connected()


async def test_a_workers_confinement_is_reported(tmp_path: Path) -> None:
    """Status, health and doctor show it."""
    frames = framed([2, "confined", [0, True, ["the kernel offers none"], ""]])
    frames += framed([2, "phone_requests", [""]])
    reports: asyncio.Queue[Report] = asyncio.Queue()
    async with a_worker(tmp_path, SAYS, frames, reports.put_nowait) as worker:
        assert await asyncio.wait_for(reports.get(), WITHIN) == LibraryLoaded()
        assert worker.confinement == Confinement(0, True, ("the kernel offers none",), "")
        assert not worker.is_outdated


async def test_a_worker_is_outdated_once_name_servers_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is confined: otherwise it can read the new file."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1")
    here = partial(resolver_files.signature, [str(file)], [])
    monkeypatch.setattr(resolver_files, "signature", here)
    async with a_worker(tmp_path, SAYS) as worker:
        worker.resolving, worker.confinement = here(), Confinement(2, True)
        seen = [worker.is_outdated]
        (tmp_path / "new").write_text("nameserver 192.0.2.2")
        (tmp_path / "new").rename(file)
        seen.append(worker.is_outdated)
        worker.confinement = Confinement(0, True)
        seen.append(worker.is_outdated)
    assert seen == [False, True, False]


# --- rules ----------------------------------------------------------------------------------------

_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(sorted(notices._NOTICES)) | st.text(), _ANY | st.lists(_ANY, max_size=3))
def test_any_notice_is_valid_or_refused(method: str, params: Any) -> None:
    """Anything that a frame can contain; accepted values have the bounds of their kind."""
    try:
        meant = notices.notice(method, params)
    except InvalidData:
        return
    match meant:
        case connection.Banned(seconds, why):
            assert 0 <= seconds <= LONGEST_BAN
            assert len(why) <= wire.MAX_ERROR_TEXT
        case Spooled(seq):
            assert type(seq) is int


@given(_ANY | st.lists(_ANY, max_size=4))
def test_any_answer_to_send_is_valid_or_refused(answer: Any) -> None:
    """No other error than InvalidData is raised."""
    with suppress(InvalidData):
        notices.sent(answer)


@given(st.integers(-(2**63), 2**64 - 1))
def test_any_ban_has_an_end(given: int) -> None:
    """Whatever WhatsApp sends, there is a date, and the daemon accepts the notice."""
    seconds = ban_seconds(given)
    text = ban("code", seconds, 1_700_000_000_000)
    assert notices.notice("banned", [seconds, text]) == connection.Banned(seconds, text)
