"""`wadctl send-file`: what it guesses, what it brings to the daemon, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_daemon import FakeClock
from tests.support.sounds import OPUS_HEAD
from tests.support.wadctl_world import Served, Terminal, environment, run, served
from wad.core.message import MessageStatus
from wad.core.outbox import Entry
from wad.core.outgoing import Attachment, AttachmentKind, NewPoll, Outgoing, SharedLocation, Text
from wad.state.outgoing_file import read
from wad.state.outgoing_files import OutgoingFiles
from wad.store.port import Enqueued
from wadctl.files import guess_kind, guess_mimetype


class Noting:
    """An outbox that sends at once, and keeps what it was given."""

    def __init__(self) -> None:
        self.content: Any = None

    async def enqueue(
        self, account: str, to: Any, content: Outgoing, *, client_id: str
    ) -> Enqueued:
        """It is sent."""
        self.content = content
        entry = Entry(
            id="e1", account=account, thread="t", to=str(to), content=content, client_id=client_id,
            secret=b"", created_ms=1, state=MessageStatus.SENT,
        )  # fmt: skip
        return Enqueued(entry, False)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Served]:
    """A daemon with one account, an outbox and a directory for files."""
    media = OutgoingFiles(tmp_path / "media", FakeClock(), lambda: "upload1")
    asyncio.run(media.open())
    with served(tmp_path / "wad.sock") as world:
        world.do(lambda d: d.accounts.have("acc-1", "Shop"))
        world.do(lambda d: setattr(d, "media", media))
        world.do(lambda d: setattr(d, "outbound", Noting()))
        yield world


def content_of(world: Served) -> Any:
    """What was queued last."""
    return world.daemon.outbound.content


@pytest.mark.parametrize(
    ("name", "kind", "mimetype"),
    [
        ("a.jpg", "image", "image/jpeg"),
        ("a.PNG", "image", "image/png"),
        ("a.gif", "document", "image/gif"),
        ("a.webp", "sticker", "image/webp"),
        ("a.mp4", "video", "video/mp4"),
        ("a.mp3", "audio", "audio/mpeg"),
        ("a.opus", "audio", "audio/ogg"),
        ("a.pdf", "document", "application/pdf"),
        ("a.tar.gz", "document", "application/octet-stream"),
        ("README", "document", "application/octet-stream"),
    ],
)
def test_the_kind_from_a_file_name(name: str, kind: str, mimetype: str) -> None:
    """What the apps cannot show as something else is a document."""
    assert guess_mimetype(name) == mimetype
    assert guess_kind(mimetype) == AttachmentKind(kind)


def test_a_file_is_sent_to_the_daemon_in_pieces(world: Served, tmp_path: Path) -> None:
    """It is queued under its hash, with its name; the daemon does not get its path."""
    data = bytes(range(256)) * 10_000
    file = tmp_path / "bill.pdf"
    file.write_bytes(data)
    result = run(world, "send-file", "acc-1", "+15550000009", str(file), "--caption", "the bill")
    assert result.exit_code == 0, result.output
    assert "e1: sent" in result.stdout
    content = content_of(world)
    assert isinstance(content, Attachment)
    assert (content.kind, content.mimetype) == (AttachmentKind.DOCUMENT, "application/pdf")
    assert (content.filename, content.caption, content.size) == ("bill.pdf", "the bill", len(data))
    assert content.sha256 == hashlib.sha256(data).hexdigest()
    assert read(world.daemon.media.root, content.sha256, len(data)) == data


@pytest.mark.parametrize("name", ["note.mp3", "note.ogg"])
def test_a_voice_note_that_phones_cannot_play_is_refused(
    world: Served, tmp_path: Path, name: str
) -> None:
    """By its media type, and by its first bytes; the error says how to convert it."""
    file = tmp_path / name
    file.write_bytes(b"ID3\x04 some sound")
    done = run(world, "send-file", "acc-1", "+15550000009", str(file), "--kind", "voice")
    assert done.exit_code == 2
    assert "ffmpeg" in done.stderr


def test_an_option_overrides_the_name(world: Served, tmp_path: Path) -> None:
    """A voice note is asked for, and gets the type that the apps want."""
    file = tmp_path / "note.ogg"
    file.write_bytes(OPUS_HEAD + b"some sound")
    assert (
        run(world, "send-file", "acc-1", "+15550000009", str(file), "--kind", "voice").exit_code
        == 0
    )
    assert content_of(world).mimetype == "audio/ogg; codecs=opus"
    arguments = [
        "--kind",
        "document",
        "--mimetype",
        "audio/x",
        "--filename",
        "b.x",
        "--seconds",
        "3",
    ]
    assert run(world, "send-file", "acc-1", "+15550000009", str(file), *arguments).exit_code == 0
    content = content_of(world)
    assert (content.mimetype, content.filename, content.seconds) == ("audio/x", "b.x", 3)


@pytest.mark.parametrize(
    ("size", "kind", "says"),
    [(0, "image", "the file is empty"), ((1 << 20) + 1, "sticker", "may have 1048576")],
)
def test_a_file_that_cannot_be_sent_is_not_brought(
    world: Served, tmp_path: Path, size: int, kind: str, says: str
) -> None:
    """It is refused here."""
    file = tmp_path / "a.webp"
    file.write_bytes(b"x" * size)
    result = run(world, "send-file", "acc-1", "+15550000009", str(file), "--kind", kind)
    assert result.exit_code == 2
    assert says in result.stderr
    assert list((world.daemon.media.root / ".incoming").iterdir()) == []


@pytest.mark.parametrize("name", ["nothing.jpg", "."])
def test_a_file_that_cannot_be_read(world: Served, tmp_path: Path, name: str) -> None:
    """One sentence with its name."""
    result = run(world, "send-file", "acc-1", "+15550000009", str(tmp_path / name))
    assert result.exit_code == 2
    assert f"cannot read {tmp_path / name}: " in result.stderr


def test_a_file_that_becomes_shorter(world: Served, tmp_path: Path) -> None:
    """What is read is not what was there: nothing is queued."""
    file = tmp_path / "a.jpg"
    file.write_bytes(b"x" * (2 << 20))
    real = world.daemon.media.put

    async def cutting(upload: str, offset: int, data: bytes) -> Any:
        file.write_bytes(b"")
        return await real(upload, offset, data)

    world.do(lambda d: setattr(d.media, "put", cutting))
    result = run(world, "send-file", "acc-1", "+15550000009", str(file))
    assert result.exit_code == 2
    assert "shrank" in result.stderr
    assert content_of(world) is None


def test_a_large_file_shows_progress_on_a_terminal(world: Served, tmp_path: Path) -> None:
    """Up to the last byte."""
    file = tmp_path / "film.mp4"
    file.write_bytes(b"x" * (6 << 20))
    env = environment(world.socket)
    shown = Terminal(
        "send-file", "acc-1", "+15550000009", str(file), columns=100, lines=30, env=env
    )
    try:
        assert shown.wait() == 0, shown.seen
    finally:
        shown.close()
    assert "film.mp4" in shown.seen
    assert "100%" in shown.seen
    assert shown.seen.rstrip().endswith("e1: \x1b[32msent\x1b[0m")


def test_json_is_json_alone(world: Served, tmp_path: Path) -> None:
    """No progress in between."""
    file = tmp_path / "film.mp4"
    file.write_bytes(b"x" * (6 << 20))
    result = run(world, "send-file", "acc-1", "+15550000009", str(file), "--json")
    assert json.loads(result.stdout)["message"]["kind"] == "video"
    assert result.stderr == ""


# --- the other kinds ------------------------------------------------------------------------------


def test_negative_coordinates_are_not_options(world: Served) -> None:
    """South and west have a minus."""
    result = run(world, "send-location", "acc-1", "+15550000009", "-33.87", "-151.2", "--name", "x")
    assert result.exit_code == 0, result.output
    assert content_of(world) == SharedLocation(-33.87, -151.2, "x")


def test_several_answers_and_mentions(world: Served) -> None:
    """The other arguments are answers; an option may be repeated."""
    assert run(world, "send-poll", "acc-1", "+15550000009", "Tea?", "yes", "no").exit_code == 0
    assert content_of(world) == NewPoll("Tea?", ("yes", "no"))
    arguments = [
        "@15550000003 @15550000004",
        "--mentions",
        "+15550000003",
        "--mentions",
        "+15550000004",
    ]
    assert run(world, "send", "acc-1", "+15550000009", *arguments).exit_code == 0
    content = content_of(world)
    assert isinstance(content, Text)
    assert content.mentions == ("15550000003@s.whatsapp.net", "15550000004@s.whatsapp.net")


def test_a_poll_without_answers(world: Served) -> None:
    """It is a usage error."""
    assert run(world, "send-poll", "acc-1", "+15550000009", "Tea?").exit_code == 2
