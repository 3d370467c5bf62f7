"""Outgoing files: complete or absent, and deleted when no message needs them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.disks import a_disk
from tests.support.fake_daemon import FakeClock
from wad.core.errors import (
    BadInput,
    Conflict,
    Damaged,
    NotFound,
    StateUnwritable,
    TooLong,
    Unavailable,
)
from wad.core.outgoing import PIECE_LIMIT, AttachmentKind
from wad.state.outgoing_file import read
from wad.state.outgoing_files import OutgoingFiles, UploadProgress

IMAGE = AttachmentKind.IMAGE


async def opened(root: Path, clock: FakeClock | None = None) -> OutgoingFiles:
    """The directory, ready."""
    numbers = itertools.count(1)
    media = OutgoingFiles(root, clock or FakeClock(), lambda: f"upload{next(numbers)}")
    await media.open()
    return media


async def put(media: OutgoingFiles, data: bytes, size: int = PIECE_LIMIT) -> str:
    """Bring a whole file in pieces; its hash."""
    upload = media.begin(IMAGE, len(data))
    for offset in range(0, len(data), size):
        done = await media.put(upload, offset, data[offset : offset + size])
    return done.sha256


def files(root: Path) -> set[str]:
    """The complete files."""
    return {path.name for path in root.iterdir() if path.is_file()}


@given(st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_a_file_in_pieces_is_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int
) -> None:
    """However it is cut, it is stored under its hash, and can be read."""
    root = tmp_path_factory.mktemp("media")

    async def body() -> str:
        return await put(await opened(root), data, size)

    sha256 = asyncio.run(body())
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert read(root, sha256, len(data)) == data


async def test_each_piece_returns_the_progress(tmp_path: Path) -> None:
    """The last response has the hash; the file does not exist before."""
    media = await opened(tmp_path)
    upload = media.begin(IMAGE, 5)
    assert await media.put(upload, 0, b"abc") == UploadProgress(upload, 3)
    assert files(tmp_path) == set()
    done = await media.put(upload, 3, b"de")
    assert (done.received, done.sha256) == (5, hashlib.sha256(b"abcde").hexdigest())
    assert files(tmp_path) == {done.sha256}


async def test_only_the_next_piece_is_taken(tmp_path: Path) -> None:
    """A wrong order, an empty or too long chunk and an unknown upload have their own errors; the upload continues."""
    media = await opened(tmp_path)
    upload = media.begin(IMAGE, 5)
    with pytest.raises(Conflict, match="begins at byte 0"):
        await media.put(upload, 3, b"de")
    with pytest.raises(BadInput, match="not 0"):
        await media.put(upload, 0, b"")
    with pytest.raises(BadInput, match="ends at 6"):
        await media.put(upload, 0, b"abcdef")
    await media.put(upload, 0, b"abc")
    with pytest.raises(Conflict, match="begins at byte 3"):
        await media.put(upload, 0, b"abc")
    for unknown in ("other", "../../etc/passwd", ""):
        with pytest.raises(NotFound, match="does not exist"):
            await media.put(unknown, 0, b"abc")
    assert (await media.put(upload, 3, b"de")).sha256
    with pytest.raises(NotFound):
        await media.put(upload, 5, b"f")


async def test_pieces_and_files_have_limits(tmp_path: Path) -> None:
    """A file that is too large is refused before its first byte."""
    media = await opened(tmp_path)
    with pytest.raises(TooLong):
        media.begin(AttachmentKind.STICKER, (1 << 20) + 1)
    with pytest.raises(BadInput):
        media.begin(IMAGE, 0)
    upload = media.begin(IMAGE, 3 * PIECE_LIMIT)
    with pytest.raises(BadInput, match=f"{PIECE_LIMIT + 1}"):
        await media.put(upload, 0, b"x" * (PIECE_LIMIT + 1))


async def test_the_number_of_concurrent_uploads_is_limited(tmp_path: Path) -> None:
    """One without progress for ten minutes is dropped for another."""
    clock = FakeClock()
    media = await opened(tmp_path, clock)
    uploads = [media.begin(IMAGE, 5) for _ in range(16)]
    await media.put(uploads[0], 0, b"abc")
    with pytest.raises(Unavailable):
        media.begin(IMAGE, 5)
    clock.now += 599
    await media.put(uploads[1], 0, b"abc")
    clock.now += 1
    media.begin(IMAGE, 5)
    with pytest.raises(NotFound):
        await media.put(uploads[0], 3, b"de")
    assert len(list((tmp_path / ".incoming").iterdir())) == 1
    assert (await media.put(uploads[1], 3, b"de")).sha256


async def test_incomplete_uploads_are_deleted_at_a_restart(tmp_path: Path) -> None:
    """Whole files stay."""
    media = await opened(tmp_path)
    sha256 = await put(media, b"whole")
    await media.put(media.begin(IMAGE, 5), 0, b"abc")
    await opened(tmp_path)
    assert list((tmp_path / ".incoming").iterdir()) == []
    assert files(tmp_path) == {sha256}


async def test_the_same_file_again_heals_a_damaged_one(tmp_path: Path) -> None:
    """It is the same file, and there once."""
    media = await opened(tmp_path)
    sha256 = await put(media, b"whole")
    (tmp_path / sha256).write_bytes(b"whale")
    assert await put(media, b"whole") == sha256
    assert read(tmp_path, sha256, 5) == b"whole"


@pytest.mark.parametrize("found", [b"whale", b"who", b"whole and more", b""])
async def test_a_file_that_is_not_what_was_put_there_is_damaged(
    tmp_path: Path, found: bytes
) -> None:
    """Other bytes, fewer, more, or none."""
    sha256 = await put(await opened(tmp_path), b"whole")
    (tmp_path / sha256).write_bytes(found)
    with pytest.raises(Damaged):
        read(tmp_path, sha256, 5)


@pytest.mark.parametrize("name", ["0" * 64, "", "..", "../../etc/passwd", ".incoming", "0" * 63])
async def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    """No name but a hash reaches the disk."""
    media = await opened(tmp_path)
    with pytest.raises(NotFound):
        await media.use(name)
    with pytest.raises(NotFound):
        read(tmp_path, name, 5)


async def test_unused_files_are_deleted(tmp_path: Path) -> None:
    """What is needed, what is young, and what was used again stays."""
    media = await opened(tmp_path)
    names = [await put(media, text) for text in (b"old", b"needed", b"young", b"used")]
    for name in (names[0], names[1], names[3]):
        os.utime(tmp_path / name, (1000, 1000))
    assert await media.use(names[3]) == 4
    await media.put(media.begin(IMAGE, 5), 0, b"abc")
    assert await media.prune({names[1]}, 2_000_000) == 1
    assert files(tmp_path) == set(names[1:])
    assert len(list((tmp_path / ".incoming").iterdir())) == 1


async def test_a_full_disk_ends_the_upload(tmp_path: Path) -> None:
    """The error gives the reason, and the received part is deleted."""
    with a_disk(tmp_path / "disk", "100k") as disk:
        media = await opened(disk / "media")
        upload = media.begin(IMAGE, 300_000)
        with pytest.raises(StateUnwritable, match="space") as caught:
            await media.put(upload, 0, b"x" * 300_000)
        assert "df -h" in caught.value.hint
        with pytest.raises(NotFound):
            await media.put(upload, 0, b"x")
        assert await put(media, b"small")
