"""The lease's record in a file: whatever lies there, this machine's daemon takes the lease."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_daemon import FakeClock
from wad.core.errors import Conflict
from wad.core.lease import Record, Terms, acquired
from wad.files import damaged_copies
from wad.store.lease import FileLease

GOOD = Record(holder="me", nonce="dead", epoch=4, ttl=15.0, acquired_ms=1, renewed_ms=2)


def a_lease(directory: Path, nonce: str = "mine") -> FileLease:
    """The lease of a state directory."""
    return FileLease(directory / "lease.json", nonce, FakeClock())


async def written(directory: Path) -> dict[str, Any]:
    """What lies there after a good record was written."""
    await a_lease(directory).write(GOOD, None)
    document: dict[str, Any] = json.loads((directory / "lease.json").read_bytes())
    return document


DAMAGED = {
    "empty": b"",
    "cut": b'{"holder": "me", "non',
    "no UTF-8": b'{"holder": "\xff", "nonce": "n", "epoch": 1, "ttl": 15}',
    "NUL": b"\0" * 4096,
    "deep": b"[" * 50_000,
    "deep within": b'{"holder": "me", "x": ' + b"[" * 50_000,
    "another shape": b"[1, 2]",
    "missing": b'{"holder": "me"}',
    "text for a number": b'{"holder": "me", "nonce": "n", "epoch": "1", "ttl": 15}',
    "true for a number": b'{"holder": "me", "nonce": "n", "epoch": true, "ttl": 15}',
    "a huge epoch": b'{"holder": "me", "nonce": "n", "epoch": 18446744073709551615, "ttl": 15}',
    "a huger epoch": b'{"holder": "me", "nonce": "n", "epoch": 1' + b"0" * 300 + b', "ttl": 15}',
    "a negative epoch": b'{"holder": "me", "nonce": "n", "epoch": -1, "ttl": 15}',
    "a huge ttl": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": 1e300}',
    "no ttl": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": 0}',
    "NaN": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": NaN}',
    "a far time": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": 15, "renewed_ms": 9223372036854775807}',
    "large": b'{"holder": "' + b"x" * 100_000 + b'", "nonce": "n", "epoch": 1, "ttl": 15}',
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_record_that_cannot_be_read_is_set_aside(tmp_path: Path, name: str) -> None:
    """It is kept under another name, an operator sees it, and a new epoch begins above the store's."""
    (tmp_path / "lease.json").write_bytes(DAMAGED[name])
    lease = a_lease(tmp_path)
    assert await lease.read() is None
    (aside,) = damaged_copies(tmp_path / "lease.json")
    assert aside.name == "lease.json.damaged-20231114T221320Z"
    assert aside.read_bytes() == DAMAGED[name]
    (problem,) = lease.problems()
    assert problem.code == "set_aside"
    assert str(aside) in problem.text
    record = acquired(None, "me", "mine", Terms(), 5, floor=7)
    await lease.write(record, None)
    seen = await lease.read()
    assert seen is not None
    assert seen.record.epoch == 8


NO_FILES: dict[str, Callable[[Path], None]] = {
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "links in a circle": lambda path: path.symlink_to(path.name),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nowhere": lambda path: path.symlink_to("/nonexistent/lease.json"),
}


@pytest.mark.parametrize("file", ["lease.json", "lease-history.jsonl"])
@pytest.mark.parametrize("name", NO_FILES)
async def test_what_is_no_file_holds_nobody_up(tmp_path: Path, name: str, file: str) -> None:
    """It makes way, and the lease is taken."""
    NO_FILES[name](tmp_path / file)
    lease = a_lease(tmp_path)
    assert await lease.read() is None
    await lease.write(GOOD, None)
    seen = await lease.read()
    assert seen is not None
    assert seen.record == GOOD
    assert [tenure.epoch for tenure in await lease.history(5)] == [4]


async def test_copies_that_are_no_files_are_capped_too(tmp_path: Path) -> None:
    """A directory goes with what is in it."""
    for number in range(7):
        lease = a_lease(tmp_path)
        lease._clock = FakeClock(wall=number * 1000)
        (tmp_path / "lease.json").mkdir()
        (tmp_path / "lease.json" / "file").touch()
        assert await lease.read() is None
    assert len(damaged_copies(tmp_path / "lease.json")) == 5


@given(st.binary(max_size=300))
async def test_any_bytes_are_a_record_or_set_aside(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    """Reading never fails over what lies there."""
    directory = tmp_path_factory.mktemp("lease")
    (directory / "lease.json").write_bytes(data)
    assert await a_lease(directory).read() is None
    assert len(damaged_copies(directory / "lease.json")) == 1


async def test_the_copies_are_named_until_somebody_removes_them(tmp_path: Path) -> None:
    """Also by the next process; and no more than five are kept."""
    for number in range(8):
        lease = a_lease(tmp_path)
        lease._clock = FakeClock(wall=number * 1000)
        (tmp_path / "lease.json").write_text(f"damaged {number}")
        assert await lease.read() is None
    copies = damaged_copies(tmp_path / "lease.json")
    assert [copy.read_text() for copy in copies] == [f"damaged {n}" for n in range(3, 8)]
    lease = a_lease(tmp_path)
    assert lease.problems()[0].figures == (5,)
    for copy in copies:
        copy.unlink()
    await lease.write(GOOD, None)
    assert lease.problems() == ()


async def test_a_record_that_is_damaged_under_its_holder(tmp_path: Path) -> None:
    """The holder's next write is refused: its reign ends, and another begins."""
    lease = a_lease(tmp_path)
    version = await lease.write(GOOD, None)
    (tmp_path / "lease.json").write_bytes(b"\xff")
    with pytest.raises(Conflict):
        await lease.write(GOOD, version)
    assert await lease.read() is None


LINE = b'{"epoch":1,"holder":"h","nonce":"n","began_ms":1,"reason":"r"}'


@pytest.mark.parametrize(
    "line",
    [
        b"\xff",
        LINE.replace(b'"h"', b'"\xff"'),
        b"[" * 50_000,
        b"{}",
        LINE.replace(b'"began_ms":1', b'"began_ms":9223372036854775807'),
        LINE.replace(b'"epoch":1', b'"epoch":-1'),
        LINE.replace(b'"epoch":1', b'"epoch":true'),
    ],
)
async def test_a_line_of_the_history_that_cannot_be_read(tmp_path: Path, line: bytes) -> None:
    """The others are shown; when the next one is written the file with it is kept aside."""
    history = tmp_path / "lease-history.jsonl"
    good = LINE.replace(b'"epoch":1', b'"epoch":2')
    history.write_bytes(b"\n".join([LINE, line, good, b""]))
    lease = a_lease(tmp_path)
    assert [tenure.epoch for tenure in await lease.history(10)] == [1, 2]
    await lease.write(GOOD, None)
    assert [tenure.epoch for tenure in await lease.history(10)] == [1, 2, 4]
    (aside,) = damaged_copies(history)
    assert line in aside.read_bytes()
    assert lease.problems()[0].code == "set_aside"


async def test_a_history_that_is_too_large_is_begun_anew(tmp_path: Path) -> None:
    """Nobody reads gigabytes of it."""
    history = tmp_path / "lease-history.jsonl"
    history.write_bytes((LINE + b"\n") * 100_000)
    lease = a_lease(tmp_path)
    assert await lease.history(10) == []
    await lease.write(GOOD, None)
    assert [tenure.epoch for tenure in await lease.history(10)] == [4]
    assert len(damaged_copies(history)) == 1


async def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A record of a process that is dead."""
    await written(tmp_path)
    seen = await a_lease(tmp_path).read()
    assert seen is not None
    assert seen.record == GOOD
    assert seen.dead


async def test_a_renewal_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is busy for longer than the ttl must not cost the lease; only a new epoch has to be on it."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    lease = a_lease(tmp_path)
    version = await lease.write(GOOD, None)
    assert synced
    synced.clear()
    renewed = msgspec.structs.replace(GOOD, renewed_ms=3)
    version = await lease.write(renewed, version)
    assert synced == []
    assert json.loads((tmp_path / "lease.json").read_bytes())["renewed_ms"] == 3
    await lease.write(msgspec.structs.replace(renewed, holder="", renewed_ms=4), version)
    assert synced, "a release is more than a renewal"
