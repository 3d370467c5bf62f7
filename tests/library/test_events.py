"""Traps of the library's events: no message that counts as delivered at WhatsApp is lost.

See docs/internals/library.md#events.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path

import pytest

from tests.support import builds
from tests.support.real_world import Line, a_real_world
from tests.support.waiting import until
from tests.whatsapp import contents
from tests.whatsapp.people import FATAL_RECEIPT_KINDS
from wad.core.event import MessageKind
from wad.core.jid import Jid
from wad.core.outgoing import Text

pytestmark = pytest.mark.timeout(120)


async def write(line: Line, number: int) -> list[str]:
    """Bob writes this number of texts."""
    return [await line.bob.send_text(line.whatsapp, f"text {n}") for n in range(number)]


async def test_receipts_that_kill_the_event_pump(tmp_path: Path) -> None:
    """The library stays connected and acknowledges messages that are lost: a new worker, and nothing is lost."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        sent = await world.outbound.enqueue(line.wad.id, Jid.parse(str(line.bob.pn)), Text("hello"))
        wa_id = (await world.outbound.settled(sent.entry.id, 30)).wa_id
        everything: list[str] = []
        for kind in FATAL_RECEIPT_KINDS:
            pid = line.pid
            everything += await write(line, 40)
            await line.bob.send_receipt(line.whatsapp, wa_id, kind)
            everything += await write(line, 40)
            await line.another_worker(pid)
            counted = await line.stored([*everything, wa_id])
            assert counted == Counter([*everything, wa_id])
        reasons = {h.text for h in world.bus.history if h.text.startswith("reconnecting")}
        assert reasons == {
            "reconnecting: WhatsApp sent a kind of receipt that the library does not know"
        }


async def test_the_first_message_of_a_sender_in_a_group(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It arrives as two events with one id, the first with keys: one message, and one receipt, after both."""
    caplog.set_level(logging.DEBUG, "wad.engine.workers")
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        group = world.server.add_group("Friends", line.bob, line.whatsapp)
        idents = [await line.bob.send_text(group, f"text {n}") for n in range(3)]
        await world.server.ledger.settled(line.whatsapp)
        assert await line.stored(idents) == Counter(idents)
        assert [m.content.text for m in await line.messages()] == ["text 0", "text 1", "text 2"]
        assert sorted(world.server.ledger.receipted_by(line.whatsapp)) == idents
    assert "Press Ctrl+C" in caplog.text
    assert "of which no event came" not in caplog.text


async def test_a_message_that_cannot_be_decrypted_at_first(tmp_path: Path) -> None:
    """A placeholder is shown until the library has requested it again: it is one message."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        ident = await line.bob.send(line.whatsapp, contents.text("secret"), garbled=True)
        await line.stored([ident])
        await until(lambda: line.spooled("undecryptablemessage").total(), "the placeholder")
        await world.server.ledger.settled(line.whatsapp)
        marker = await line.bob.send_text(line.whatsapp, "marker")
        assert await line.stored([ident, marker]) == Counter([ident, marker])
        assert [(m.content.kind, m.content.text) for m in await line.messages()] == [
            (MessageKind.TEXT, "secret"), (MessageKind.TEXT, "marker"),
        ]  # fmt: skip


async def test_a_graceful_stop_in_a_burst(tmp_path: Path) -> None:
    """Disconnect, wait until the handler is idle, stop: even with early receipts each receipted message is stored."""
    (tmp_path / "build").mkdir()
    build = builds.another_build(tmp_path / "build")
    async with a_real_world(tmp_path / "wad", python_path=build) as world, world.lead():
        line = await world.line()
        receipted = world.server.ledger.receipted_by
        with line.spool_locked():
            idents = await write(line, 300)
            await until(lambda: len(receipted(line.whatsapp)) > 60, "receipts")
            stopping = asyncio.create_task(line.wad.stop())
            await line.whatsapp.wait_offline()
            assert line.spooled() == Counter()
        await stopping
        assert 60 < len(receipted(line.whatsapp)) < 300
        assert set(receipted(line.whatsapp)) <= set(line.spooled())
        await line.wad.start()
        assert await line.stored(idents) == Counter(idents)
