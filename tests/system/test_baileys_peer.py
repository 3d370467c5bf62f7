"""The other side is the real Baileys: what it sends is stored as it was meant, and what wad sends it shows.

A contact, Bob, uses Baileys as a linked device; wad owns the account of the shop.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.baileys import Backend, a_backend
from tests.support.daemons import Daemon, a_daemon
from tests.whatsapp import Account, Group, WhatsApp

pytestmark = pytest.mark.timeout(400)  # the first run of a machine fetches packages

_PNG: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A picture of one pixel."""


@dataclass
class Pair:
    """wad with the account `shop`, and Bob's Baileys."""

    server: WhatsApp
    shop: Account
    bob: Account
    daemon: Daemon
    peer: Backend

    async def stored(self, ident: str) -> dict[str, Any]:
        """A message, once wad has stored it."""
        return await self.when(ident, lambda _: True)

    async def when(
        self, ident: str, condition: Callable[[dict[str, Any]], object]
    ) -> dict[str, Any]:
        """A stored message, once it is as expected."""
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(30):
                while True:
                    found = [m for m in await self.daemon.messages("shop") if m["wa_id"] == ident]
                    if found and condition(found[0]):
                        return found[0]
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{ident} did not become as expected: {found}") from None

    async def order(self, *arguments: str) -> dict[str, Any]:
        """A command of wadctl that sends; it must be sent, and is returned as it is stored."""
        sent = (await self.daemon.wadctl_json(*arguments, "--wait", "20"))["message"]
        assert sent["state"] in ("sent", "delivered", "read"), sent
        return dict(sent)


@asynccontextmanager
async def a_pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Both are paired and connected."""
    async with WhatsApp() as server:
        shop = server.add_account("15550000001", name="Shop")
        bob = server.add_account("15550000012", name="Bob")
        async with (
            a_daemon(tmp_path / "wad", server.environment()) as daemon,
            a_backend(server, tmp_path / "baileys") as peer,
        ):
            await daemon.call("accounts.add", name="shop", phone=f"+{shop.pn.user}")
            await shop.phone.scan(await daemon.qr("shop"))
            await daemon.wait_state("shop", "connected")
            await peer.pair(bob)
            yield Pair(server, shop, bob, daemon, peer)
        assert server.errors == []


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Both are paired and connected."""
    async with a_pair(tmp_path) as pair:
        yield pair


@pytest.fixture(params=["number", "lid", "group", "group by number"])
def chat(pair: Pair, request: pytest.FixtureRequest) -> Chat:
    """A conversation of the shop and Bob."""
    match request.param:
        case "number":
            return Chat(str(pair.shop.pn), str(pair.bob.pn))
        case "lid":
            return Chat(str(pair.shop.lid), str(pair.bob.lid))
    group = pair.server.add_group("Team", pair.shop, pair.bob, by_number="number" in request.param)
    return Chat(str(group.jid), str(group.jid), group)


@dataclass
class Chat:
    """To whom Baileys writes, and to whom wad writes."""

    from_baileys: str
    from_wad: str
    group: Group | None = None


async def test_baileys_writes_and_wad_stores(pair: Pair, chat: Chat) -> None:
    """Text, reply, reaction, edit, image, poll, deletion for everyone: each becomes what Baileys meant."""
    peer, to = pair.peer, chat.from_baileys
    text = await peer.send(to, "Do you open at nine?")
    stored = await pair.stored(text)
    assert (stored["kind"], stored["text"], stored["direction"]) == (
        "text",
        "Do you open at nine?",
        "inbound",
    )
    assert stored["sender"] == str(pair.bob.pn)
    assert stored["thread"].endswith(f"__{chat.from_wad if chat.group else pair.bob.pn}")

    reply = await pair.stored(await peer.send(to, "or at ten?", quoted=text))
    assert reply["reply_to"]["wa_id"] == text
    assert reply["reply_to"]["sender"] == str(pair.bob.pn)

    await peer.send_content(to, {"react": {"id": text, "text": "👍"}})
    liked = await pair.when(text, lambda m: m["reactions"])
    assert [(one["by"], one["text"]) for one in liked["reactions"]] == [(str(pair.bob.pn), "👍")]

    await peer.send_content(to, {"edit": text, "text": "Do you open at eight?"})
    edited = await pair.when(text, lambda m: m["edited_ms"])
    assert edited["text"] == "Do you open at eight?"

    picture = await peer.send_content(
        to, {"image": base64.b64encode(_PNG).decode(), "caption": "our door"}
    )
    shown = await pair.stored(picture)
    assert (shown["kind"], shown["text"], shown["media"]["size"]) == (
        "image",
        "our door",
        len(_PNG),
    )

    poll = await peer.send_content(
        to, {"poll": {"name": "When?", "values": ["eight", "nine"], "selectableCount": 1}}
    )
    asked = await pair.stored(poll)
    assert (asked["kind"], asked["poll"]["question"], asked["poll"]["options"]) == (
        "poll",
        "When?",
        ["eight", "nine"],
    )

    await peer.send_content(to, {"delete": text})
    await pair.when(text, lambda m: m["revoked_ms"])


async def test_wad_writes_and_baileys_shows(pair: Pair, chat: Chat, tmp_path: Path) -> None:
    """The same kinds the other way; Baileys names the message and its author by the address of the chat."""
    peer, to = pair.peer, chat.from_wad
    first = await peer.send(chat.from_baileys, "hello")
    theirs = await pair.stored(first)

    sent = await pair.order("send", "shop", to, "We open at nine")
    shown = await peer.received("We open at nine")
    assert shown["id"] == sent["wa_id"]

    thread = theirs["thread"].partition("__")[2]
    await pair.order("send", "shop", thread, "as always", "--reply-to", theirs["id"])
    assert (await peer.received("as always"))["quoted"] == first

    await pair.order("react", "shop", theirs["id"], "👋")
    assert (await peer.next("reaction", id=first))["text"] == "👋"

    await pair.order("edit", "shop", sent["id"], "We open at ten")
    assert (await peer.next("edit", id=sent["wa_id"]))["text"] == "We open at ten"

    file = tmp_path / "door.png"
    file.write_bytes(_PNG)
    await pair.order("send-file", "shop", to, str(file), "--caption", "the door")
    image = await peer.received("the door")
    assert image["sha256"] == hashlib.sha256(_PNG).hexdigest()

    await pair.order("send-poll", "shop", to, "When?", "eight", "nine")
    poll = (await peer.next("message", kind="pollCreationMessage"))["poll"]
    assert poll == {"name": "When?", "options": ["eight", "nine"]}

    await pair.order("revoke", "shop", sent["id"])
    await peer.next("revoke", id=sent["wa_id"])
