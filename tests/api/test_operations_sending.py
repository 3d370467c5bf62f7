"""The sending operations: what they are given, what they look up, and what they refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.small_world import World, a_world
from tests.support.waiting import until
from wad.api.context import Context
from wad.api.dispatch import call
from wad.api.operation import Access
from wad.core.errors import BadInput, Conflict, NotFound, TooLong, WadError
from wad.core.jid import Jid
from wad.core.outgoing import Attachment, ContactCard, NewPoll, OwnReaction, SharedLocation, Text

BOB = "+15550000002"
BOBS = Jid.parse("15550000002@s.whatsapp.net")


@asynccontextmanager
async def a_shop(directory: Path) -> AsyncIterator[World]:
    """A world that leads, with one connected account named shop."""
    async with a_world(directory) as world, world.leading():
        await world.connected()
        yield world


async def ask(world: World, operation: str, **params: Any) -> Any:
    """The reply of an operation, as an interface gets it."""
    return await call(cast(Context, world), operation, params, Access.OPERATE)


async def send(world: World, operation: str, **params: Any) -> dict[str, Any]:
    """The entry of a message of the shop that was sent."""
    reply = await ask(world, f"messages.{operation}", account="shop", wait=30, **params)
    entry: dict[str, Any] = reply["message"]
    assert entry["wa_id"], entry
    return entry


def last_sent(world: World) -> Any:
    """The content that left last."""
    return world.worker(world.accounts.find("shop")).sent[-1][1]


async def received(world: World, text: str = "a question") -> str:
    """Bob writes; the id of the stored message."""
    account = world.accounts.find("shop")
    wa_id = world.worker(account).receive(BOBS, text)
    await until(lambda: account.inbound.recorded >= 1 and account.inbound.backlog == 0, "it")
    thread = f"{account.id}__{BOBS}"
    found = [m.id for m in await world.store.messages(thread, limit=50) if m.wa_id == wa_id]
    return found[0]


async def a_file(world: World, data: bytes = b"a picture", kind: str = "image") -> str:
    """A file that was brought here in one piece."""
    reply = await ask(world, "media.put", kind=kind, size=len(data), data=data)
    return str(reply["sha256"])


async def test_each_operation_makes_its_content(tmp_path: Path) -> None:
    """With everything that it was given."""
    async with a_shop(tmp_path) as world:
        question = await received(world)
        await send(
            world, "send", to=BOB, text="yes @15550000002", reply_to=question, mentions=[BOB]
        )
        content = last_sent(world)
        assert isinstance(content, Text)
        assert content.mentions == (str(BOBS),)
        assert content.reply_to is not None
        assert (content.reply_to.text, content.reply_to.sender) == ("a question", str(BOBS))

        await send(
            world, "send_file", to=BOB, sha256=await a_file(world), kind="image", mimetype="image/png",
            caption="look", width=4, height=3,
        )  # fmt: skip
        content = last_sent(world)
        assert isinstance(content, Attachment)
        assert (content.size, content.caption, content.width, content.height) == (9, "look", 4, 3)

        await send(world, "send_location", to=BOB, latitude=1, longitude=-2, name="Shop")
        assert last_sent(world) == SharedLocation(1, -2, "Shop")
        await send(world, "send_contact", to=BOB, name="Ann", phone="+15550000003")
        assert last_sent(world) == ContactCard("Ann", "+15550000003")
        await send(world, "send_poll", to=BOB, question="Tea?", answers=["yes", "no"], selectable=2)
        assert last_sent(world) == NewPoll("Tea?", ("yes", "no"), 2)

        entry = await send(world, "react", message=question, emoji="👍")
        content = last_sent(world)
        assert isinstance(content, OwnReaction)
        assert (entry["kind"], entry["text"], entry["to"]) == ("reaction", "👍", str(BOBS))


async def test_own_texts_can_be_edited_and_deleted(tmp_path: Path) -> None:
    """The stored message shows it; once deleted it is deleted."""
    async with a_shop(tmp_path) as world:
        first = await send(world, "send", to=BOB, text="helo")
        await send(world, "edit", message=first["id"], text="hello")
        message = await world.store.message(first["id"])
        assert message is not None
        assert message.content.text == "hello"
        await send(world, "revoke", message=first["id"])
        with pytest.raises(Conflict, match="already deleted"):
            await send(world, "revoke", message=first["id"])
        with pytest.raises(BadInput, match="kind revoke"):
            await send(world, "edit", message=first["id"], text="again")


async def test_the_same_client_id_is_a_duplicate(tmp_path: Path) -> None:
    """Even if the edited message has another text by now."""
    async with a_shop(tmp_path) as world:
        first = await send(world, "send", to=BOB, text="helo")
        for duplicate in (False, True):
            reply = await ask(
                world, "messages.edit", account="shop", message=first["id"], text="hello",
                client_id="k1", wait=30,
            )  # fmt: skip
            assert reply["duplicate"] is duplicate
        with pytest.raises(Conflict, match="used for a different"):
            await send(world, "edit", message=first["id"], text="hullo", client_id="k1")
        with pytest.raises(Conflict, match="used for a different"):
            await send(world, "revoke", message=first["id"], client_id="k1")


@pytest.mark.parametrize("operation", ["react", "edit", "revoke", "send"])
async def test_a_message_that_is_not_there(tmp_path: Path, operation: str) -> None:
    """Unknown, or another account's: not found, and nothing is queued."""
    params: dict[str, dict[str, str]] = {
        "react": {"emoji": "👍"}, "edit": {"text": "x"}, "revoke": {},
        "send": {"to": BOB, "text": "x"},
    }  # fmt: skip
    field = "reply_to" if operation == "send" else "message"
    async with a_shop(tmp_path) as world:
        question = await received(world)
        await world.accounts.add("other", phone="+15550000009")
        for account, ident in (("shop", "nothing"), ("other", question)):
            with pytest.raises(NotFound, match="has no message"):
                await ask(
                    world, f"messages.{operation}", account=account,
                    **{field: ident}, **params[operation],
                )  # fmt: skip
        assert await world.store.entries(None) == []


async def test_a_queued_message_cannot_be_a_target(tmp_path: Path) -> None:
    """It has no id of WhatsApp's yet: it can be cancelled instead."""
    async with a_shop(tmp_path) as world:
        account = world.accounts.find("shop")
        await account.stop()
        reply = await ask(world, "messages.send", account="shop", to=BOB, text="hello")
        with pytest.raises(Conflict, match="is queued") as caught:
            await ask(world, "messages.revoke", account="shop", message=reply["message"]["id"])
        assert "outbox cancel" in caught.value.hint


@pytest.mark.parametrize(
    ("operation", "params", "kind", "says"),
    [
        ("messages.edit", {"text": "x"}, BadInput, "this account wrote"),
        ("messages.revoke", {}, BadInput, "this account wrote"),
        ("messages.react", {"emoji": "ok"}, BadInput, "not one emoji"),
    ],
)
async def test_messages_of_others_cannot_be_edited_or_deleted(
    tmp_path: Path, operation: str, params: dict[str, str], kind: type[WadError], says: str
) -> None:
    """One clear sentence."""
    async with a_shop(tmp_path) as world:
        question = await received(world)
        with pytest.raises(kind, match=says):
            await ask(world, operation, account="shop", message=question, **params)


async def test_an_answer_stays_in_its_chat(tmp_path: Path) -> None:
    """Nothing of one chat is quoted in another."""
    async with a_shop(tmp_path) as world:
        question = await received(world)
        with pytest.raises(BadInput, match="is in the chat"):
            await ask(
                world,
                "messages.send",
                account="shop",
                to="+15550000003",
                text="x",
                reply_to=question,
            )


async def test_a_file_that_was_not_brought_here(tmp_path: Path) -> None:
    """Not found; one that is too large for its kind is refused at once."""
    async with a_shop(tmp_path) as world:
        with pytest.raises(NotFound, match="never uploaded"):
            await ask(
                world, "messages.send_file", account="shop", to=BOB, sha256="0" * 64,
                kind="image", mimetype="image/png",
            )  # fmt: skip
        with pytest.raises(TooLong):
            await ask(world, "media.put", kind="sticker", size=2 << 20, data=b"x")
        large = await a_file(world, b"x" * (1 << 20))
        await a_file(world, b"y" * (1 << 20), kind="document")
        with pytest.raises(BadInput, match="image/webp"):
            await ask(
                world, "messages.send_file", account="shop", to=BOB, sha256=large,
                kind="sticker", mimetype="image/png",
            )  # fmt: skip


async def test_a_piece_has_a_limit(tmp_path: Path) -> None:
    """A mebibyte, whatever the file."""
    async with a_shop(tmp_path) as world:
        with pytest.raises(BadInput):
            await ask(
                world, "media.put", kind="document", size=2 << 20, data=b"x" * ((1 << 20) + 1)
            )
