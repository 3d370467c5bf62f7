"""The lease record in a file: whatever its content, this machine's daemon takes the lease."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_daemon import FakeClock
from tests.support.leaders import TERMS, Leaderships, a_leader, running
from tests.support.waiting import TIMEOUT, until
from wad.core.errors import Conflict, StateUnwritable
from wad.core.lease import LeaseTerms, Record, acquired
from wad.lib.clock import SystemClock
from wad.lib.files import damaged_copies, swap_file, unwritable
from wad.store.lease import FileLease

GOOD = Record(holder="me", nonce="dead", epoch=4, ttl=15.0, acquired_ms=1, renewed_ms=2)


def a_lease(directory: Path, nonce: str = "mine") -> FileLease:
    """The lease of a state directory."""
    return FileLease(directory / "lease.json", nonce, FakeClock())


async def written(directory: Path) -> dict[str, Any]:
    """The content of the file after a valid record was written."""
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
    "an epoch that no installation reaches": b'{"holder": "me", "nonce": "n", "epoch": 9007199254740992, "ttl": 15}',
    "a negative epoch": b'{"holder": "me", "nonce": "n", "epoch": -1, "ttl": 15}',
    "a huge ttl": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": 1e300}',
    "no ttl": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": 0}',
    "NaN": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": NaN}',
    "a far time": b'{"holder": "me", "nonce": "n", "epoch": 1, "ttl": 15, "renewed_ms": 9223372036854775807}',
    "large": b'{"holder": "' + b"x" * 100_000 + b'", "nonce": "n", "epoch": 1, "ttl": 15}',
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_record_is_set_aside(tmp_path: Path, name: str) -> None:
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
    record = acquired(None, "me", "mine", LeaseTerms(), 5, floor=7)
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
async def test_a_path_that_is_not_a_file_is_renamed(tmp_path: Path, name: str, file: str) -> None:
    """The lease is acquired then."""
    NO_FILES[name](tmp_path / file)
    lease = a_lease(tmp_path)
    assert await lease.read() is None
    await lease.write(GOOD, None)
    seen = await lease.read()
    assert seen is not None
    assert seen.record == GOOD
    assert [tenure.epoch for tenure in await lease.history(5)] == [4]


async def test_copies_that_are_not_files_are_capped_too(tmp_path: Path) -> None:
    """A directory is deleted with its content."""
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
    """Reading never fails because of the content."""
    directory = tmp_path_factory.mktemp("lease")
    (directory / "lease.json").write_bytes(data)
    assert await a_lease(directory).read() is None
    assert len(damaged_copies(directory / "lease.json")) == 1


async def test_the_copies_are_reported_until_they_are_deleted(tmp_path: Path) -> None:
    """Also by the next process; and at most five are kept."""
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
    assert lease.problems() == []


async def test_a_record_that_is_damaged_under_its_holder(tmp_path: Path) -> None:
    """The background write of the next renewal detects it, and the renewal after that fails: another epoch begins."""
    lease = a_lease(tmp_path)
    version = await lease.write(GOOD, None)
    (tmp_path / "lease.json").write_bytes(b"\xff")
    assert await lease.write(GOOD, version) == version
    assert await lease.read() is None
    with pytest.raises(Conflict):
        await lease.write(GOOD, version)


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
async def test_a_damaged_line_of_the_history(tmp_path: Path, line: bytes) -> None:
    """The others are shown; when the next one is written the file with it is set aside."""
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


async def test_a_history_that_is_too_large_is_replaced(tmp_path: Path) -> None:
    """Gigabytes are never read."""
    history = tmp_path / "lease-history.jsonl"
    history.write_bytes((LINE + b"\n") * 100_000)
    lease = a_lease(tmp_path)
    assert await lease.history(10) == []
    await lease.write(GOOD, None)
    assert [tenure.epoch for tenure in await lease.history(10)] == [4]
    assert len(damaged_copies(history)) == 1


async def test_a_written_record_is_read(tmp_path: Path) -> None:
    """A record of a process that is dead."""
    await written(tmp_path)
    seen = await a_lease(tmp_path).read()
    assert seen is not None
    assert seen.record == GOOD
    assert seen.dead


def renewal(number: int) -> Record:
    """A renewal of the record."""
    return msgspec.structs.replace(GOOD, renewed_ms=GOOD.renewed_ms + number)


FREE = msgspec.structs.replace(GOOD, holder="", nonce="", renewed_ms=99)


async def on_disk(lease: FileLease) -> Record:
    """The record on the disk once all earlier writes are done."""
    seen = await lease.read()
    assert seen is not None
    return seen.record


async def test_a_renewal_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a new epoch, and the end of one, must be on the disk."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    lease = a_lease(tmp_path)
    version = await lease.write(GOOD, None)
    assert synced
    synced.clear()
    version = await lease.write(renewal(1), version)
    assert await on_disk(lease) == renewal(1)
    assert synced == []
    await lease.write(FREE, version)
    assert synced, "a release is more than a renewal"


class Disk:
    """The disk below renewals: it writes them, fails, or hangs.  Written renewals are in `taken`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[Record] = []
        self.refusal: OSError | None = None
        self.hanging = False
        self._turns = threading.Event()
        self._turns.set()
        monkeypatch.setattr("wad.store.lease.swap_file", self._swap)

    def hang(self) -> None:
        """No write ends from now on."""
        self.hanging = True
        self._turns.clear()

    def go_on(self) -> None:
        """Writes continue."""
        self.hanging = False
        self._turns.set()

    def _swap(self, file: Path, data: bytes) -> None:
        self._turns.wait()
        if self.refusal is not None:
            raise unwritable(file, self.refusal)
        swap_file(file, data)
        self.taken.append(msgspec.json.decode(data, type=Record))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """It continues at the end, so that nothing waits for it."""
    found = Disk(monkeypatch)
    yield found
    found.go_on()


async def test_a_disk_that_hangs_costs_no_renewal(tmp_path: Path, disk: Disk) -> None:
    """All succeed; of those that waited only the latest is written."""
    lease = a_lease(tmp_path)
    version = await lease.write(GOOD, None)
    await lease.write(renewal(1), version)
    assert await on_disk(lease) == renewal(1)
    disk.hang()
    for number in range(2, 9):
        async with asyncio.timeout(TIMEOUT):
            assert await lease.write(renewal(number), version) == version
    disk.go_on()
    assert await on_disk(lease) == renewal(8)
    assert len(disk.taken) <= 3


async def test_a_leader_keeps_its_lease_while_the_disk_hangs(tmp_path: Path, disk: Disk) -> None:
    """For longer than the ttl: its epoch continues, and so does the workers' permission to act."""
    clock, leaderships, permits = SystemClock(), Leaderships(), list[float]()
    lease = FileLease(tmp_path / "lease.json", "me", clock)
    leader = a_leader(lease, "me", permits.append)
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting and len(permits) > 2, "renewals")
        disk.hang()
        begun = clock.monotonic()
        await until(lambda: clock.monotonic() - begun > 2 * TERMS.ttl, "twice the ttl")
        assert leader.valid_for() is not None
        disk.go_on()
    assert leaderships.epochs == [1]
    assert (await on_disk(lease)).holder == ""


async def test_the_next_renewal_raises_the_error_of_the_disk(tmp_path: Path, disk: Disk) -> None:
    """Until a renewal was written; each tries, so that it succeeds as soon as the disk works."""
    lease = a_lease(tmp_path)
    version = await lease.write(GOOD, None)
    disk.refusal = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    await lease.write(renewal(1), version)
    for number in (2, 3):
        assert await on_disk(lease) == GOOD
        with pytest.raises(StateUnwritable, match="No space"):
            await lease.write(renewal(number), version)
    assert await on_disk(lease) == GOOD
    disk.refusal = None
    with pytest.raises(StateUnwritable):  # what the last one failed of; it is written all the same
        await lease.write(renewal(4), version)
    assert await on_disk(lease) == renewal(4)
    await lease.write(renewal(5), version)
    assert await on_disk(lease) == renewal(5)


async def test_a_leader_whose_disk_fails_releases(tmp_path: Path, disk: Disk) -> None:
    """The right to act ends as if the record were unreachable, and the reason is shown."""
    leaderships = Leaderships()
    leader = a_leader(FileLease(tmp_path / "lease.json", "me"), "me")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        disk.refusal = OSError(errno.EIO, os.strerror(errno.EIO))
        await until(lambda: not leaderships.acting, "the end of the leadership")
        disk.refusal = None
        await until(lambda: leaderships.acting and leaderships.epochs[-1] > 1, "another leadership")


async def test_a_release_is_the_last_write(tmp_path: Path, disk: Disk) -> None:
    """It waits for the renewal that hangs; one that had not begun is not written at all."""
    lease = a_lease(tmp_path)
    version = await lease.write(GOOD, None)
    disk.hang()
    for number in (1, 2):
        await lease.write(renewal(number), version)
    releasing = asyncio.create_task(lease.write(FREE, version))
    await asyncio.sleep(0)
    disk.go_on()
    await releasing
    assert await on_disk(lease) == FREE
    assert renewal(2) not in disk.taken[1:]
    with pytest.raises(Conflict):  # nothing is answered from memory any more
        await lease.write(renewal(3), version)


async def test_a_disk_that_writes_no_renewal_is_reported(tmp_path: Path, disk: Disk) -> None:
    """For as long as it writes none; without a lease to renew nothing is reported."""
    lease, clock = a_lease(tmp_path), FakeClock()
    lease._renewals._clock = clock
    version = await lease.write(GOOD, None)
    clock.now += 3600
    assert lease.problems() == []
    disk.hang()
    for number in range(1, 7):
        await lease.write(renewal(number), version)
        clock.now += 5
    (problem,) = lease.problems()
    assert (problem.code, problem.figures) == ("disk_slow", (30.0,))
    disk.go_on()
    assert await on_disk(lease) == renewal(6)
    assert lease.problems() == []


ACTS = st.sampled_from(["renew", "renew", "settle", "hang", "refuse", "heal", "release", "damage"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(ACTS, max_size=14))
async def test_any_fault_of_the_disk(
    tmp_path_factory: pytest.TempPathFactory, disk: Disk, acts: list[str]
) -> None:
    """The stored record is one that was written, never older than one before it, and free once it was released."""
    lease = a_lease(tmp_path_factory.mktemp("lease"))
    disk.go_on()
    disk.refusal, disk.taken = None, []
    held: str | None = await lease.write(GOOD, None)
    asked, damaged, troubled = 0, False, False
    for act in acts:
        match act:
            case "renew" if held:
                asked += 1
                async with asyncio.timeout(TIMEOUT):
                    # A refused write or a damaged file may be reported; nothing else is a reason.
                    with suppress(Conflict, StateUnwritable) if troubled else nullcontext():
                        assert await lease.write(renewal(asked), held) == held
            case "settle" if not disk.hanging:
                await lease.read()
            case "hang":
                disk.hang()
            case "refuse" if not disk.hanging:
                await lease.read()
                disk.refusal, troubled = OSError(errno.EIO, "broken"), True
            case "heal":
                disk.go_on()
                await lease.read()
                disk.refusal = None
            case "release" if held and not disk.hanging:
                with suppress(Conflict):
                    await lease.write(FREE, held)
                    held = None
            case "damage" if held and not disk.hanging:
                await lease.read()
                (Path(lease.where)).write_bytes(b"{")
                damaged = troubled = True
    disk.go_on()
    seen = await lease.read()
    assert [one.renewed_ms for one in disk.taken] == sorted(one.renewed_ms for one in disk.taken)
    if held is None:
        assert seen is not None
        assert seen.record == FREE
    elif not damaged:
        assert seen is not None
        assert seen.record in [GOOD, *disk.taken]
        if asked and disk.refusal is None and disk.taken:
            assert seen.record == disk.taken[-1]
