"""Names that are no text, from the wire through the real library: they are shown, and hold nothing up.

WhatsApp's stanzas and protobufs carry any bytes where a text belongs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from tests.support.real_world import Line, RealWorld, a_real_world
from tests.support.waiting import until
from tests.whatsapp import Group, contents, pb
from tests.whatsapp.device import Envelope
from tests.whatsapp.people import enc_node
from tests.whatsapp.wire import Jid as Address
from wad.core.brief import brief_thread
from wad.core.jid import Jid
from wad.core.message import MessageStatus
from wad.core.outgoing import Text

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

NAMES = {
    "cut": "caf\udcc3",
    "no UTF-8": "\udcff\udcfe shop",
    "NUL": "a\0b",
    "a surrogate": "\udced\udca0\udc80",
    "overlong": "\udcc0\udc80",
    "escapes": "\x1b[31mred\u202eder",
    "6 MB": "z" * 6_000_000,
    "6 MB that are not UTF-8": "\udcff" * 6_000_000,
}
SHORT = {name: text for name, text in NAMES.items() if len(text) < 100}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[RealWorld, Line]]:
    """One worker for all of them: it has to live through each."""
    async with a_real_world(tmp_path_factory.mktemp("names")) as world, world.lead():
        yield world, await world.line()


class Untouched:
    """Within it the worker stays the same, the last message arrives, and nothing fails."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def __aenter__(self) -> None:
        self.pid = self.line.pid
        self.untranslated = self.line.wad.inbound.untranslated

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            return
        line = self.line
        line.bob.name = "Bob"
        await line.stored([await line.bob.send_text(line.whatsapp, "after it")])
        assert line.pid == self.pid
        assert line.wad.restarts == 0
        assert line.wad.inbound.error == ""
        assert line.wad.inbound.set_aside == 0
        assert line.wad.inbound.untranslated == self.untranslated


async def names(line: Line) -> list[str]:
    """What all threads are called; every one can be shown."""
    found = await line.store.threads(line.wad.id, limit=500)
    for thread in found:
        msgspec.json.encode(brief_thread(thread))
    return [thread.name or "" for thread in found]


async def shown(line: Line, start: str) -> None:
    """Wait until a thread is called so."""
    async with asyncio.timeout(30):
        while not any(name.startswith(start) for name in await names(line)):
            await asyncio.sleep(0.02)


def mended(text: str) -> str:
    """The beginning of it, as it is shown."""
    data = text[:40].encode(errors="surrogateescape")
    return data.decode(errors="replace").replace("\0", "\ufffd")[:10]


# --- groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_a_new_groups_subject(place: tuple[RealWorld, Line], name: str) -> None:
    """It is replaced by a valid one, and the group is there."""
    _, line = place
    async with Untouched(line):
        await a_group(place, NAMES[name])
        await shown(line, mended(NAMES[name]))


async def a_group(place: tuple[RealWorld, Line], subject: str) -> Group:
    """A group in which Bob has written something: a thread without a message is not listed."""
    world, line = place
    group = world.server.add_group(subject, line.bob, line.whatsapp)
    await line.stored([await line.bob.send_text(group, "hello all")])
    return group


@pytest.mark.parametrize("name", NAMES)
async def test_a_changed_subject(place: tuple[RealWorld, Line], name: str) -> None:
    """The same of one that is there."""
    _, line = place
    async with Untouched(line):
        group = await a_group(place, "Friends")
        await shown(line, "Friends")
        group.rename(f"new {NAMES[name]}", line.bob)
        await shown(line, f"new {mended(NAMES[name])}"[:10])


@pytest.mark.parametrize("name", NAMES)
async def test_a_description_and_what_members_are_called(
    place: tuple[RealWorld, Line], name: str
) -> None:
    """They are read by the library alone; wad asks for the group before it sends into it."""
    world, line = place
    async with Untouched(line):
        group = await a_group(place, "About")
        text = NAMES[name][:2_000_000]  # thrice in one stanza, which has less than 16 MB
        group.describe(text, line.bob)
        group.shown_as = text
        to = Jid.parse(str(group.jid))
        sent = await world.outbound.enqueue(line.wad.id, to, Text(f"hello {name}"))
        entry = await world.outbound.settled(sent.entry.id, 60)
        assert entry.state in (MessageStatus.SENT, MessageStatus.DELIVERED), entry


async def test_a_change_by_an_address_that_is_not_a_text(place: tuple[RealWorld, Line]) -> None:
    """The library may drop such a change; later ones arrive."""
    _, line = place
    async with Untouched(line):
        group = await a_group(place, "Whose")
        line.bob.lid, lid = Address("9\udcff\0", "lid"), line.bob.lid
        group.rename("Nobody's", line.bob)
        line.bob.lid = lid


# --- contacts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_a_push_name_beside_a_message(place: tuple[RealWorld, Line], name: str) -> None:
    """The message is stored, and its sender has the corrected name."""
    _, line = place
    async with Untouched(line):
        line.bob.name = NAMES[name]
        ident = await line.bob.send_text(line.whatsapp, f"from {name}")
        await line.stored([ident])
        (message,) = [one for one in await line.messages() if one.wa_id == ident]
        assert message.push_name.startswith(mended(NAMES[name]))
        await names(line)


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\xff", b"\x0a\x05ab", b"\x00" * 9])
async def test_a_message_that_is_not_a_protobuf_is_counted(
    place: tuple[RealWorld, Line], body: bytes
) -> None:
    """A stranger may encrypt any bytes; the library acknowledges them and hands nothing over."""
    _, line = place
    before, pid = line.wad.inbound.untranslated, line.pid
    for device in line.whatsapp.devices.values():
        ident = f"GARBAGE{body.hex()}"
        sealed = enc_node(*line.bob.keys.encrypt(device, body), contents.PLAIN)
        stanza = line.bob.message_node(ident, contents.PLAIN, sealed, **line.bob.origin())
        device.post(Envelope(stanza))
    await line.stored([await line.bob.send_text(line.whatsapp, "after it")])
    await until(lambda: line.wad.inbound.untranslated == before + 1, "that it is counted")
    assert line.pid == pid


async def test_a_message_that_the_library_drops_is_counted(place: tuple[RealWorld, Line]) -> None:
    """Without a time it is acknowledged and never handed over: an operator sees that there was one."""
    _, line = place
    before, pid = line.wad.inbound.untranslated, line.pid
    for device in line.whatsapp.devices.values():
        body = enc_node(*line.bob.keys.encrypt(device, pb.encode({1: "no time"})), contents.PLAIN)
        stanza = line.bob.message_node("NOTIME", contents.PLAIN, body, **line.bob.origin())
        del stanza.attrs["t"]
        device.post(Envelope(stanza))
    await line.stored([await line.bob.send_text(line.whatsapp, "after it")])
    await until(lambda: line.wad.inbound.untranslated == before + 1, "that it is counted")
    assert line.pid == pid


@pytest.mark.parametrize("name", NAMES)
async def test_push_names_of_the_phone(place: tuple[RealWorld, Line], name: str) -> None:
    """In a history chunk that has nothing else."""
    world, line = place
    async with Untouched(line):
        ann = world.server.add_peer(f"1555002{len(world.server.peers):04}", name=NAMES[name])
        before = line.spooled("historysync").total()
        await line.whatsapp.phone.send_push_names(ann)
        await until(lambda: line.spooled("historysync").total() > before, "the names are kept")


@pytest.mark.parametrize("name", SHORT)
async def test_names_in_the_phones_settings(place: tuple[RealWorld, Line], name: str) -> None:
    """The account's own and those of its address book, which arrive as app state."""
    world, line = place
    async with Untouched(line):
        ann = world.server.add_peer(f"1555003{len(world.server.peers):04}", name="Ann")
        await line.whatsapp.phone.share_app_state(
            push_name=SHORT[name], contacts={ann.pn: SHORT[name]}
        )
        await line.stored([await ann.send_text(line.whatsapp, f"Ann, {name}")])


# --- channels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
async def test_a_channels_name_description_and_post(
    place: tuple[RealWorld, Line], name: str
) -> None:
    """Its posts are stored, corrected; its name is not requested."""
    world, line = place
    async with Untouched(line):
        channel = world.server.add_newsletter()
        escaped = NAMES[name].replace("\0", "\\u0000").replace("\x1b", "\\u001b")
        channel.announce(line.whatsapp, escaped, escaped)
        ident = channel.post_text(line.whatsapp, f"news {NAMES[name]}")
        await line.stored([ident])
        (post,) = [one for one in await line.messages() if one.wa_id == ident]
        assert post.content.text.startswith(f"news {mended(NAMES[name])}"[:10])
