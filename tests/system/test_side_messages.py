"""What WhatsApp's apps do not show as a message of its own: sealed changes, pins, better copies, notices.

The real daemon and library, and a test server whose people send what phones send.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.systems import System, a_system
from tests.whatsapp import pb, sealing
from tests.whatsapp.contents import Target, extended_text, with_secret
from tests.whatsapp.history import Conversation, Line
from tests.whatsapp.people import Addressing
from tests.whatsapp.sealing import SealedEdit
from tests.whatsapp.wire import node

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Everything up, the account paired."""
    async with a_system(tmp_path) as system:
        await system.pair()
        yield system


async def sent(system: System, content: pb.Message) -> str:
    """A message of Bob's with a secret, which is stored."""
    content = with_secret(content)
    ident = system.server.next_id()
    system.bob.remember(ident, pb.encode(content))
    await system.bob.send(system.account, content, id=ident)
    await system.stored([ident])
    return ident


async def shown(system: System, ident: str) -> dict[str, Any]:
    """A stored message."""
    (found,) = [m for m in await system.daemon.messages("shop") if m["wa_id"] == ident]
    return dict(found)


async def when(
    system: System, ident: str, condition: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """A stored message, once it is as expected."""
    async with asyncio.timeout(30):
        while not condition(found := await shown(system, ident)):
            await asyncio.sleep(0.05)
    return found


async def thread(system: System) -> dict[str, Any]:
    """The chat with Bob."""
    (found,) = (await system.daemon.call("threads.list", account="shop"))["threads"]
    return dict(found)


async def test_sealed_edits_by_number_and_by_lid(system: System) -> None:
    """Each combination of addresses in the seal; no further message, nothing more unread."""
    bob, account = system.bob, system.account
    for author, editor in ((a, e) for a in (bob.pn, bob.lid) for e in (bob.pn, bob.lid)):
        ident = await sent(system, {1: "the total is 100"})
        target = Target(ident, author, account.lid, from_me=True)
        text = f"the total is 1000, {author.server} {editor.server}"
        edit: pb.Message = {12: {2: 14, 14: {1: text}, 15: system.server.now() * 1000}}
        await bob.send(account, sealing.sealed_edit(target, bob.secret(ident), editor, edit))
        found = await when(system, ident, lambda m: m["edited_ms"])
        assert (found["kind"], found["text"]) == ("text", text)
    found = await thread(system)
    assert (found["messages"], found["unread"]) == (4, 4)


async def test_sealed_changes_after_a_restart(system: System) -> None:
    """The secrets of earlier messages are known again: of incoming ones and of our own."""
    bob, account = system.bob, system.account
    ident = await sent(system, {1: "before"})
    await system.daemon.wadctl_json("send", "shop", f"+{bob.pn.user}", "ours", "--wait", "20")
    ours = await bob.received(account, text="ours")
    await system.daemon.end()
    await system.daemon.start()
    await system.daemon.wait_state("shop", "connected")
    target = Target(ident, bob.lid, account.lid, from_me=True)
    edit = sealing.sealed_edit(target, bob.secret(ident), bob.lid, {1: "after"})
    await bob.send(account, edit)
    assert (await when(system, ident, lambda m: m["edited_ms"]))["text"] == "after"
    target = Target(ours.ident, account.lid, account.lid, from_me=False)
    at = system.server.now()
    reaction = sealing.sealed_reaction(target, bob.secret(ours.ident), bob.lid, "👍", at)
    await bob.send(account, reaction)
    found = await when(system, ours.ident, lambda m: m["reactions"])
    assert [one["text"] for one in found["reactions"]] == ["👍"]


async def test_sealed_changes_in_the_history_are_opened(system: System) -> None:
    """In a chunk with their targets, of which the phone sends many more than wad remembers; what is unknown stays."""
    bob, account, at = system.bob, system.account, 1_790_000_000
    target = Target("OLD0", bob.lid, account.lid, from_me=True)
    ours = Target("OLD1", account.lid, account.lid, from_me=False)
    unknown = Target("GONE", bob.lid, account.lid, from_me=True)
    secret = bytes(range(32))
    about = {35: {3: secret}}
    edit: pb.Message = {12: {2: 14, 14: {1: "the total is 1000"}, 15: (at + 90) * 1000}}
    lines = [
        Line("OLD0", at, {1: "the total is 100", **about}, bob),
        Line("OLD1", at + 1, {1: "thank you", **about}),
        *(Line(f"FILL{n}", at + 10 + n, {1: f"line {n}"}, bob) for n in range(30)),
        Line("EDIT", at + 90, sealing.sealed_edit(target, secret, bob.lid, edit), bob),
        Line("LIKE", at + 91, sealing.sealed_reaction(ours, secret, bob.lid, "👍", at + 91), bob),
        Line("NONE", at + 92, sealing.sealed_edit(unknown, secret, bob.lid, edit), bob),
    ]
    bob.addressing = Addressing.LID_WITH_PN
    await account.phone.send_history(Conversation(bob, lines))
    await system.stored(["OLD0", "FILL29"])
    found = await when(system, "OLD0", lambda m: m["edited_ms"])
    assert (found["text"], found["earlier"][0]["text"]) == ("the total is 1000", "the total is 100")
    found = await when(system, "OLD1", lambda m: m["reactions"])
    assert [one["text"] for one in found["reactions"]] == ["👍"]
    assert (await thread(system))["messages"] == 32
    assert (await system.daemon.account("shop"))["inbound"]["untranslated"] == 0


async def test_sealed_polls_events_and_comments(system: System) -> None:
    """A poll gets its new option, an event its new text; a comment is a reply; an answer to an event is not shown."""
    bob, account = system.bob, system.account
    poll = await sent(system, {64: {2: "Tea?", 3: [{1: "yes"}], 4: 1}})
    target = Target(poll, bob.lid, account.lid, from_me=True)
    more: pb.Message = {64: {2: "Tea?", 3: [{1: "yes"}, {1: "no"}], 4: 1}}
    sealed = sealing.sealed_edit(target, bob.secret(poll), bob.lid, more, SealedEdit.OPTION)
    await bob.send(account, sealed)
    found = await when(system, poll, lambda m: m["edited_ms"])
    assert found["poll"]["options"] == ["yes", "no"]
    event = await sent(system, {75: {3: "Party at eight"}})
    target = Target(event, bob.lid, account.lid, from_me=True)
    later: pb.Message = {75: {3: "Party at nine"}}
    sealed = sealing.sealed_edit(target, bob.secret(event), bob.lid, later, SealedEdit.EVENT)
    await bob.send(account, sealed)
    assert (await when(system, event, lambda m: m["edited_ms"]))["text"] == "Party at nine"
    secret = bob.secret(event)
    await bob.send(account, sealing.sealed_event_response(target, secret, bob.lid, 1))
    comment = await bob.send(account, sealing.sealed_comment(target, secret, bob.lid, {1: "good"}))
    await system.stored([comment])
    found = await shown(system, comment)
    assert (found["kind"], found["text"], found["reply_to"]["wa_id"]) == ("text", "good", event)
    assert ((await thread(system))["messages"], (await thread(system))["unread"]) == (3, 3)


async def test_an_edit_by_somebody_else_changes_nothing(system: System) -> None:
    """In a group each member has the secret: a valid seal does not prove who wrote the edit."""
    bob, account = system.bob, system.account
    eve = system.server.add_peer("15550000013", name="Eve")
    group = system.server.add_group("Team", account, bob, eve)
    content = with_secret({1: "the total is 100"})
    ident = system.server.next_id()
    bob.remember(ident, pb.encode(content))
    await bob.send(group, content, id=ident)
    await system.stored([ident])
    target = Target(ident, bob.lid, group.jid, from_me=False, in_group=True)
    forged = sealing.sealed_edit(target, bob.secret(ident), eve.lid, {1: "the total is 1"})
    await eve.send(group, forged)
    last = await eve.send_text(group, "last")
    await system.stored([last])
    found = await shown(system, ident)
    assert (found["text"], found["edited_ms"]) == ("the total is 100", None)


async def test_a_better_copy_replaces_the_file_and_falls_with_it(system: System) -> None:
    """A photo in HD comes twice: one message, with the better file; revoked, nothing of it is left."""
    bob, account = system.bob, system.account
    for kind, association in (("image", 10), ("video", 5), ("video", 19), ("image", 12)):
        first = bob.announce(kind, b"small" * 9, caption="the contract")
        ident = await sent(system, first)
        key = {1: str(account.lid), 2: 1, 3: ident}
        info: pb.Message = {10: {1: association, 2: key}}
        better = bob.announce("video" if association == 12 else kind, b"large" * 99)
        await bob.send(account, {91: {1: {**better, 35: info}}, 35: info})
        found = await when(system, ident, lambda m: m["media"] and m["media"]["size"] == 495)
        assert (found["kind"], found["text"]) == (kind, "the contract")
        await bob.revoke(account, ident)
        found = await when(system, ident, lambda m: m["revoked_ms"])
        assert (found["media"], found["text"]) == (None, "")
    assert (await thread(system))["messages"] == 4


async def test_pins_and_keeps_change_a_message(system: System) -> None:
    """Set and withdrawn, by either side."""
    bob, account = system.bob, system.account
    ident = await sent(system, {1: "remember"})
    key = {1: str(account.lid), 2: 1, 3: ident}
    at = system.server.now() * 1000
    await bob.send(account, {63: {1: key, 2: 1, 3: at}, 35: {5: 86_400}})
    found = await when(system, ident, lambda m: m["pinned_until_ms"])
    assert found["pinned_until_ms"] == at + 86_400_000
    await bob.send(account, {63: {1: key, 2: 2, 3: at + 1}})
    await when(system, ident, lambda m: m["pinned_until_ms"] is None)
    await bob.send(account, {51: {1: key, 2: 1, 3: at}})
    await when(system, ident, lambda m: m["kept"])
    await bob.send(account, {51: {1: key, 2: 2, 3: at + 1}})
    await when(system, ident, lambda m: not m["kept"])
    found = await thread(system)
    assert (found["messages"], found["unread"], found["last_text"]) == (1, 1, "remember")


async def test_notices_are_no_messages(system: System) -> None:
    """Kept for a while, never shown, never counted; nor does the status report a fault."""
    bob, account = system.bob, system.account
    ident = await sent(system, {1: "hello"})
    key = {1: str(account.lid), 2: 1, 3: ident}
    sealed = {1: key, 2: bytes(40), 3: bytes(12)}
    notices: list[pb.Message] = [
        {83: {2: 2}}, {61: {1: 1_795_953_082_000, 2: 1, 3: "Weekly"}}, {65: {1: key}}, {80: {1: 0}},
        {70: {1: "application/x"}}, {102: {}}, {10: {1: bytes(32)}}, {121: {1: key}},
        {82: {**sealed, 4: 2}}, {82: {**sealed, 4: 3}}, {56: sealed}, {71: sealed}, {76: sealed},
    ]  # fmt: skip
    for notice in notices:
        await bob.send(account, notice)
    last = await sent(system, {1: "last"})
    assert [m["wa_id"] for m in await system.daemon.messages("shop")] == [ident, last]
    found = await thread(system)
    assert (found["messages"], found["unread"], found["last_text"]) == (2, 2, "last")
    assert (await system.daemon.account("shop"))["inbound"]["untranslated"] == 0


async def test_a_change_that_cannot_be_decrypted_is_not_shown(system: System) -> None:
    """Changes are sent as hidden: nothing in the chat, nothing unread.  A message leaves a placeholder."""
    bob, account = system.bob, system.account
    first = await sent(system, {1: "hello"})
    key = {1: str(account.lid), 2: 1, 3: first}
    changes: list[pb.Message] = [
        {46: {1: key, 2: "👍"}}, {12: {1: key, 2: 14, 14: {1: "bye"}}}, {12: {1: key, 2: 0}},
        {63: {1: key, 2: 1}}, {82: {1: key, 2: bytes(40), 3: bytes(12), 4: 2}},
    ]  # fmt: skip
    bob.sends_again = False
    for change in changes:
        await bob.send(account, change, garbled=True)
    text = await bob.send(account, {1: "unreadable"}, garbled=True)
    await system.stored([text])
    assert [m["kind"] for m in await system.daemon.messages("shop")] == ["text", "undecryptable"]
    found = await thread(system)
    assert (found["messages"], found["unread"]) == (2, 2)


async def test_a_call_stays_what_it_was_when_it_ends(system: System) -> None:
    """The end of a call does not repeat that it was a video or group call."""
    offers = (
        node("offer", node("audio", enc="opus", rate=16000), node("video", enc="vp8")),
        node("offer_notice", media="video", type_="group"),
    )
    for offer in offers:
        call = system.server.next_id()
        system.bob._signal(system.account, call, offer)
        await system.stored([call])
        before = (await shown(system, call))["call"]
        assert (before["outcome"], before["video"]) == ("offered", True)
        system.bob.hang_up(system.account, call)
        after = (await when(system, call, lambda m: m["call"]["outcome"] != "offered"))["call"]
        assert after == {**before, "outcome": "missed"}


async def test_mentions_and_quotes_name_numbers(system: System) -> None:
    """In a group by LIDs a member mentions the account and others, and quotes Bob."""
    bob, account = system.bob, system.account
    carol = system.server.add_peer("15550000033", name="Carol")
    for peer in (bob, carol):  # their numbers and LIDs are known
        await system.stored([await peer.send_text(account, "hi")])
    group = system.server.add_group("Team", carol, bob, account)
    first = await bob.send_text(group, "who takes this?")
    await system.stored([first])
    text = f"@{account.lid.user} or @{bob.lid.user}?"
    answer = extended_text(
        text, quoting=carol.target(group, first, bob), quoted={1: "who takes this?"},
        mentions=[account.lid, bob.lid],
    )  # fmt: skip
    ident = await carol.send(group, answer)
    await system.stored([ident])
    found = await shown(system, ident)
    assert found["mentions"] == [str(account.pn), str(bob.pn)]
    text = f"@{account.pn.user} or @{bob.pn.user}?"
    assert found["text"] == text
    threads = (await system.daemon.call("threads.list", account="shop"))["threads"]
    assert [one["last_text"] for one in threads if one["chat"] == str(group.jid)] == [text]
    assert found["reply_to"]["sender"] == str(bob.pn)
