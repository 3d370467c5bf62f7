"""Pages of lists: whatever strangers wrote, a page fits into a reply, and the next one continues after it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from tests.support.small_world import World, a_world
from tests.support.waiting import until
from wad.api.context import Context
from wad.api.operations.messages import (
    ListThreads,
    MessageRef,
    Messages,
    message,
    messages,
    threads,
)
from wad.core import wire
from wad.core.event import ChatReceived, Content, Event, MessageKind, MessageReceived, encode
from wad.core.jid import Jid
from wad.flow.accounts.account import Account
from wad.state.spool import Salvaged, Spool
from wadctl.render import render
from wadctl.screen import Screen

BOB = Jid.parse("15550000002@s.whatsapp.net")
HUGE = 6_000_000
SCREEN = Screen(terminal=False, width=0, height=0, colour=False)


def arrived(number: int, text: str, chat: Jid = BOB) -> MessageReceived:
    """A message, the later the greater its number."""
    return MessageReceived(
        f"ID{number}", chat, chat, 1000 + number, Content(MessageKind.TEXT, text), push_name="N" * HUGE
    )  # fmt: skip


async def received(world: World, account: Account, events: list[Event]) -> None:
    """They are recorded."""
    spool = Spool.open(account.account_dir.spool_db)
    rows = [(7, "message", "", b"", encode(event), "") for event in events]
    spool.append_salvaged(rows, "elsewhere", Salvaged())
    last = spool.last_seq()
    spool.close()
    account.inbound.wake()
    await until(lambda: account.inbound._cursor.seq == last, "the messages")


def context_of(world: World) -> Context:
    """What the operations of this module ask for."""
    return cast(Context, SimpleNamespace(accounts=world.accounts, store=world.store))


def fits(reply: object) -> Any:
    """The reply as it crosses the socket."""
    shape = msgspec.to_builtins(reply)
    assert len(wire.encode(wire.Response(1, None, shape))) < wire.MAX_FRAME
    return shape


async def test_a_page_of_huge_texts_fits_and_all_pages_have_all_messages(tmp_path: Path) -> None:
    """However many are asked for."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await received(world, account, [arrived(n, "z" * HUGE) for n in range(12)])
        context, before, found = context_of(world), "", []
        while True:
            request = Messages(account=account.id, chat=str(BOB), limit=1000, before=before)
            page = fits(await messages(context, request))
            found += page["messages"]
            assert "shown in full by:\nwadctl message" in render("messages.list", SCREEN, page)
            before = page["next"]
            if not before:
                break
        assert [m["wa_id"] for m in found] == [f"ID{n}" for n in reversed(range(12))]
        assert {tuple(m["cut"]) for m in found} == {("text", "push_name")}


async def test_many_long_texts_are_several_pages(tmp_path: Path) -> None:
    """Each of them would fit, and all of them together would not."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        events: list[Event] = [
            MessageReceived(f"ID{n}", BOB, BOB, n, Content(MessageKind.TEXT, "\u20ac" * 4000))
            for n in range(1, 701)
        ]
        await received(world, account, events)
        context, before = context_of(world), ""
        sizes: list[int] = []
        while before or not sizes:
            request = Messages(account=account.id, chat=str(BOB), limit=1000, before=before)
            page = fits(await messages(context, request))
            sizes.append(len(page["messages"]))
            before = page["next"]
        assert sum(sizes) == 700
        assert len(sizes) > 1


async def test_a_huge_message_is_shown_whole_in_pieces(tmp_path: Path) -> None:
    """Each of which fits into a reply."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        text = "".join(chr(0x4E00 + n % 5000) for n in range(1_000_000))
        await received(world, account, [arrived(1, text)])
        page = await messages(context_of(world), Messages(account=account.id, chat=str(BOB)))
        ident, at, pieces = page.messages[0].id, 0, ""
        while True:
            shown = fits(await message(context_of(world), MessageRef(ident, at)))
            pieces += shown["message"]["text"]
            assert render("messages.show", SCREEN, shown)
            if shown["next"] is None:
                break
            at = shown["next"]
        assert pieces == text


async def test_a_usual_message_is_shown_whole_at_once(tmp_path: Path) -> None:
    """With a text that a list would have cut."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        one = MessageReceived("ID", BOB, BOB, 1, Content(MessageKind.TEXT, "one\ntwo\n" * 5000))
        await received(world, account, [one])
        page = await messages(context_of(world), Messages(account=account.id, chat=str(BOB)))
        shown = await message(context_of(world), MessageRef(page.messages[0].id))
        assert (shown.message.text, shown.message.cut, shown.next) == (
            "one\ntwo\n" * 5000,
            (),
            None,
        )


async def test_threads_with_huge_names_fit_on_a_page(tmp_path: Path) -> None:
    """A group's subject and a push name."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        events: list[Event] = []
        for number in range(10):
            group = Jid.parse(f"12036300000000000{number}@g.us")
            events.append(ChatReceived(group, name="G" * HUGE, name_ms=1))
            events.append(arrived(number, "hi", group))
        await received(world, account, events)
        page = fits(await threads(context_of(world), ListThreads(limit=1000)))
        assert len(page["threads"]) == 10
        assert all(len(thread["name"]) == 256 for thread in page["threads"])
