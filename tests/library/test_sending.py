"""Traps of the library's sending: what it would add, scan, fetch or open automatically.

See docs/internals/library.md#sending.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.disks import a_disk, fill
from tests.support.real_world import Line, RealWorld, a_real_world
from tests.support.waiting import until
from tests.whatsapp import pb
from wad.core.jid import Jid
from wad.core.outbox import Entry, Refused
from wad.core.outgoing import Attachment, AttachmentKind, Text
from wad.engine import worker as worker_requests

pytestmark = pytest.mark.timeout(120)
_CONVERSATION, _CONTEXT_INFO = 1, 35  # fields of waE2E.Message


@asynccontextmanager
async def a_page() -> AsyncIterator[tuple[str, list[object]]]:
    """A web page's address, and its requests."""
    visits: list[object] = []

    def visit(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", visits
    finally:
        server.close()


def bob(line: Line) -> Jid:
    """The recipient."""
    return Jid.parse(str(line.bob.pn))


async def send(world: RealWorld, line: Line, text: str) -> Entry:
    """Queue a text."""
    return (await world.outbound.enqueue(line.wad.id, bob(line), Text(text))).entry


async def test_a_text_is_a_text(tmp_path: Path) -> None:
    """It is not marked as a bot's, not searched for phone numbers, and no address in it is fetched."""
    async with a_page() as (address, visits), a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        text = f"@{line.bob.pn.user} see {address}"
        await send(world, line, text)
        got = await line.bob.received(line.whatsapp, text=text)
        assert set(pb.decode(got.content)) == {_CONVERSATION, _CONTEXT_INFO}
        stanza = line.whatsapp.last_message
        assert stanza is not None
        assert {child.tag for child in stanza.children} == {"participants", "device-identity"}
        assert visits == []


async def test_a_file_is_known_by_its_hash_alone(tmp_path: Path) -> None:
    """The library would open a path and fetch an address; it gets only the bytes of a stored file."""
    async with a_page() as (address, visits), a_real_world(tmp_path) as world, world.lead():
        line = await world.line(paired=False)
        await line.wad.pair()
        await line.code()
        assert line.wad.worker is not None
        for name in ("/etc/hostname", "../../etc/hostname", address, ""):
            file = Attachment(kind=AttachmentKind.IMAGE, sha256=name, size=9, mimetype="image/png")
            result = await line.wad.worker.send(bob(line), file, b"s" * 32, 1)
            assert isinstance(result, Refused)
            assert result.code == "not_found"
        assert visits == []


async def test_an_upload_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would wait forever: its worker ends, and the file is sent once by the next one."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        world.server.stalling = True
        first = line.wad.worker
        assert first is not None
        with monkeypatch.context() as patched:
            patched.setattr(worker_requests, "_UPLOAD_TIMEOUT", 0.5)
            file = a_file(tmp_path / "media", b"a picture")
            entry = (await world.outbound.enqueue(line.wad.id, bob(line), file)).entry
            # If the worker was too slow to reach the server, that is the next one's upload.
            await world.server.wait_stalled()
            assert "upload" in await asyncio.shield(first.ended)
        world.server.stalling = False
        assert (await world.outbound.settled(entry.id, 30)).wa_id
        assert line.wad.worker is not first
        assert len(line.bob.inbox) == 1


def a_file(media: Path, data: bytes) -> Attachment:
    """A picture among the files to send."""
    name = hashlib.sha256(data).hexdigest()
    (media / name).write_bytes(data)
    return Attachment(kind=AttachmentKind.IMAGE, sha256=name, size=len(data), mimetype="image/png")


async def test_a_full_disk_loses_no_message(tmp_path: Path) -> None:
    """The library refuses each within milliseconds: they wait, and are sent in order when there is space again."""
    (tmp_path / "sessions").mkdir()
    with a_disk(tmp_path / "sessions", "24m") as disk:
        async with a_real_world(tmp_path) as world, world.lead():
            line = await world.line()
            await send(world, line, "before")
            await line.bob.received(line.whatsapp, text="before")
            fill(disk / "filler")
            texts = [f"text {n}" for n in range(8)]
            for number, text in enumerate(texts, 1):
                entry = await send(world, line, text)
                await until(partial(refused, world, number), "a refusal")
            (disk / "filler").unlink()
            assert (await world.outbound.settled(entry.id, 30)).wa_id
            assert [message.text for message in line.bob.inbox] == ["before", *texts]


def refused(world: RealWorld, times: int) -> bool:
    """Whether a message returned to the queue this number of times."""
    return sum("disk is full" in happening.text for happening in world.bus.history) >= times
