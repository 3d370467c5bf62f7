"""Groups and addresses of the test server, as the bare library parses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.whatsapp import Group, Peer, contents
from tests.whatsapp.driver import Client, Scene, a_client
from tests.whatsapp.people import Addressing

pytestmark = pytest.mark.asyncio(loop_scope="module")


def add_ann(scene: Scene) -> Peer:
    """A third person."""
    return scene.server.add_peer(str(15550002000 + len(scene.server.peers)), name="Ann")


def a_group(scene: Scene, *more: Peer, by_number: bool = False) -> Group:
    """Bob created it; the account is in it."""
    return scene.server.add_group("Friends", scene.bob, scene.account, *more, by_number=by_number)


async def texted(client: Client, text: str) -> dict[str, Any]:
    """The client's message with this text."""
    return await client.wait_for("MessageEv", lambda e: e["text"] == text)


async def in_group(scene: Scene, group: Group, ident: str) -> dict[str, Any]:
    """The client's message with text."""
    return await scene.client.wait_for("MessageEv", lambda e: e["id"] == ident and e["text"])


# --- groups -----------------------------------------------------------------------------------


async def test_the_members_are_notified_of_their_group(scene: Scene) -> None:
    """The client learns it at once, and again on request."""
    group = a_group(scene)
    joined = await scene.client.wait("JoinedGroupEv")
    assert joined["data"]["GroupInfo"]["GroupName"]["Name"] == "Friends"
    info = await scene.client.call("get_group_info", str(group.jid))
    assert {p["LID"]["User"] for p in info["Participants"]} == {
        scene.bob.lid.user, scene.account.lid.user,
    }  # fmt: skip
    listed = await scene.client.call("get_joined_groups")
    assert group.jid.user in [each["JID"]["User"] for each in listed]


async def test_a_senders_first_message_is_two_events(scene: Scene) -> None:
    """The key and the text have one id; later only the text (docs/internals/whatsapp-protocol.md#sender-keys)."""
    group = a_group(scene)
    first = await scene.bob.send_text(group, "first")
    second = await scene.bob.send_text(group, "second")
    await in_group(scene, group, second)
    found = [m for m in scene.client.messages if m["chat"] == str(group.jid)]
    assert [(m["id"], m["text"]) for m in found] == [
        (first, ""), (first, "first"), (second, "second"),
    ]  # fmt: skip
    key, text, _ = found
    assert list(key["message"]) == ["senderKeyDistributionMessage"]
    assert (text["sender"], text["alt"]) == (str(scene.bob.lid), str(scene.bob.pn))
    assert text["group"]


async def test_a_group_by_number(scene: Scene) -> None:
    """Its members are phone numbers; the LID is included."""
    group = a_group(scene, by_number=True)
    got = await in_group(scene, group, await scene.bob.send_text(group, "by number"))
    assert (got["sender"], got["alt"]) == (str(scene.bob.pn), str(scene.bob.lid))
    ident = await scene.client.call("send_to", str(group.jid), "me too")
    assert (await scene.bob.received(scene.account)).ident == ident


async def test_messages_of_the_client_to_a_group(scene: Scene) -> None:
    """Every member reads it, the first time and later."""
    ann = add_ann(scene)
    group = a_group(scene, ann)
    for text in ("one", "two"):
        ident = await scene.client.call("send_to", str(group.jid), text)
        for member in (scene.bob, ann):
            got = await member.received(scene.account, text=text)
            assert (got.ident, got.group) == (ident, group.jid)
    assert [copy.text for copy in scene.account.phone.copies[-2:]] == ["one", "two"]
    entries = scene.server.ledger.received_from(scene.account)[-2:]
    assert [entry.to for entry in entries] == [group.jid.user] * 2


async def test_the_members_receipts(scene: Scene) -> None:
    """The client learns which members have it."""
    group = a_group(scene)
    ident = await scene.client.call("send_to", str(group.jid), "hello?")
    event = await scene.client.wait_for("ReceiptEv", lambda e: ident in e["data"]["MessageIDs"])
    receipt = event["data"]
    assert receipt["Type"] == "DELIVERED"
    assert receipt["MessageSource"]["Sender"]["User"] == scene.bob.lid.user


async def test_members_join_and_leave(scene: Scene) -> None:
    """The newcomer reads later messages, the former member does not."""
    ann = add_ann(scene)
    group = a_group(scene)
    await scene.client.call("send_to", str(group.jid), "before")
    group.add(ann)
    joined = (await scene.client.wait("GroupInfoEv"))["data"]
    assert [jid["User"] for jid in joined["Join"]] == [ann.lid.user]
    await scene.client.call("send_to", str(group.jid), "with Ann")
    await ann.received(scene.account, text="with Ann")
    group.remove(ann)
    left = (await scene.client.wait("GroupInfoEv", 2))["data"]
    assert [jid["User"] for jid in left["Leave"]] == [ann.lid.user]
    await scene.client.call("send_to", str(group.jid), "without Ann")
    await scene.bob.received(scene.account, text="without Ann")
    assert [message.text for message in ann.inbox] == ["with Ann"]
    with pytest.raises(ValueError, match="is not in the group"):
        await ann.send_text(group, "let me in")
    await in_group(scene, group, await scene.bob.send_text(group, "still here"))


async def test_a_new_subject(scene: Scene) -> None:
    """The client is notified."""
    group = a_group(scene)
    group.rename("Best friends", scene.bob)
    changed = (await scene.client.wait("GroupInfoEv"))["data"]
    assert changed["Name"]["Name"] == "Best friends"


async def test_an_undecryptable_group_message_is_sent_again(scene: Scene) -> None:
    """Once more for the device alone, with the key."""
    group = a_group(scene)
    await in_group(scene, group, await scene.bob.send_text(group, "fine"))
    ident = await scene.bob.send(group, contents.text("secret"), garbled=True)
    await scene.client.wait("UndecryptableMessageEv")
    assert (await in_group(scene, group, ident))["text"] == "secret"
    assert (await in_group(scene, group, await scene.bob.send_text(group, "go on")))[
        "text"
    ] == "go on"


async def test_reactions_and_replies_in_a_group(scene: Scene) -> None:
    """They name the author of their target."""
    ann = add_ann(scene)
    group = a_group(scene, ann)
    ident = await scene.bob.send_text(group, "hello all")
    reaction = await ann.react(group, ident, "👋", by=scene.bob)
    got = await scene.client.wait_for("MessageEv", lambda e: "reactionMessage" in e["message"])
    assert got["id"] == reaction
    key = got["message"]["reactionMessage"]["key"]
    assert (key["remoteJID"], key["participant"]) == (str(group.jid), str(scene.bob.lid))
    poll = await scene.bob.poll(group, "Tea?", ["yes", "no"])
    vote = await ann.vote(group, poll, "yes", by=scene.bob)
    await scene.client.wait_for("MessageEv", lambda e: "pollUpdateMessage" in e["message"])
    assert len(await scene.client.call("read_vote", vote)) == 1


async def test_two_accounts_in_a_group(scene: Scene, tmp_path: Path) -> None:
    """One client reads the other one's messages, and vice versa."""
    other = scene.server.add_account("15550000003", name="Other")
    async with a_client(scene.server, tmp_path / "other.db") as client:
        await client.pair(other)
        group = scene.server.add_group("Work", scene.account, other, scene.bob)
        for text in ("ping", "ping again"):
            await scene.client.call("send_to", str(group.jid), text)
            got = await texted(client, text)
            assert got["chat"] == str(group.jid)
        await client.call("send_to", str(group.jid), "pong")
        await texted(scene.client, "pong")
        await scene.bob.received(other, text="pong")


async def test_the_owner_writes_to_a_group_on_the_phone(scene: Scene) -> None:
    """The client sees it as its own."""
    group = a_group(scene)
    ident = await scene.account.phone.write_text(group, "from my phone")
    got = await in_group(scene, group, ident)
    assert (got["from_me"], got["chat"]) == (True, str(group.jid))


async def test_a_status(scene: Scene) -> None:
    """Its chat is the broadcast, and it has its author."""
    ident = await scene.bob.send_text(scene.server.status_of(scene.bob), "having lunch")
    got = await texted(scene.client, "having lunch")
    assert (got["id"], got["chat"], got["sender"]) == (
        ident, "status@broadcast", str(scene.bob.lid),
    )  # fmt: skip


async def test_an_unknown_address_has_another_session(scene: Scene) -> None:
    """By number alone, then by LID alone: the library asks again, and gets it."""
    scene.bob.addressing = Addressing.PN
    await scene.text("by number")
    scene.bob.addressing = Addressing.LID
    assert (await scene.text("by hidden id"))["chat"] == str(scene.bob.lid)
    assert len(scene.client.events["UndecryptableMessageEv"]) == 1


# --- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addressing", "by_number", "alternative"),
    [
        (Addressing.LID_WITH_PN, False, True),
        (Addressing.LID, False, False),
        (Addressing.PN_WITH_LID, True, True),
        (Addressing.PN, True, False),
    ],
)
async def test_addresses_of_a_message(
    scene: Scene, addressing: Addressing, by_number: bool, alternative: bool
) -> None:
    """Chat and sender follow the stanza; the other address is set if it was included.

    See docs/internals/whatsapp-protocol.md#receiving.
    """
    scene.bob.addressing = addressing
    got = await scene.text("hello")
    here, other = (scene.bob.pn, scene.bob.lid) if by_number else (scene.bob.lid, scene.bob.pn)
    assert (got["chat"], got["sender"]) == (str(here), str(here))
    assert got["alt"] == (str(other) if alternative else "")
    known = await scene.client.call("get_lid_from_pn", str(scene.bob.pn))
    assert known.get("User", "") == (scene.bob.lid.user if alternative else "")


async def test_one_person_under_both_addresses(scene: Scene) -> None:
    """Once both were sent together, one session is used under either, and the mapping is filled in."""
    for addressing in (Addressing.PN, Addressing.PN_WITH_LID, Addressing.LID, Addressing.PN):
        scene.bob.addressing = addressing
        assert (await scene.text(addressing))["text"] == addressing
    assert scene.client.messages[-1]["alt"] == str(scene.bob.lid)
    assert scene.client.events["UndecryptableMessageEv"] == []
