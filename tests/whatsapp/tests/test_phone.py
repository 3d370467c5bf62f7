"""Messages of an account's phone to its devices, newsletters and calls, as the bare library parses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.whatsapp import WhatsApp, contents
from tests.whatsapp.driver import Scene, a_client
from tests.whatsapp.history import Conversation, Line, Sync

pytestmark = pytest.mark.asyncio(loop_scope="module")


# --- linking by code --------------------------------------------------------------------------


async def test_linking_by_code(tmp_path: Path) -> None:
    """The phone refuses another code, and links with the one that is shown."""
    async with WhatsApp() as server:
        account = server.add_account("15550000001", name="Shop")
        with pytest.raises(ValueError, match="no device asks"):
            await account.phone.enter_code("ABCD-EFGH")
        async with a_client(server, tmp_path / "client.db") as client:
            await client.wait("qr")
            code = await client.call("PairPhone", "+15550000001", True)
            with pytest.raises(ValueError, match="another code"):
                await account.phone.enter_code("AAAA-AAAA")
            assert await account.phone.enter_code(code) == 1
            await client.wait("ConnectedEv")
            bob = server.add_peer("15550000002")
            await bob.send_text(account, "linked")
            assert (await client.wait("MessageEv"))["text"] == "linked"
        assert server.errors == []


# --- history ----------------------------------------------------------------------------------


def lines_of(scene: Scene, count: int) -> list[Line]:
    """Bob and the account in turn, a minute apart."""
    return [
        Line(
            f"OLD{n}",
            1_700_000_000 + 60 * n,
            contents.text(f"old {n}"),
            scene.bob if n % 2 else None,
        )
        for n in range(count)
    ]


async def synced(scene: Scene, parts: int) -> list[dict[str, Any]]:
    """The parts of a history that the client received."""
    await scene.client.wait("HistorySyncEv", parts)
    return [event["data"]["Data"] for event in scene.client.events["HistorySyncEv"]]


@pytest.mark.parametrize("inline", [True, False])
async def test_history(scene: Scene, inline: bool) -> None:
    """Inside the message, or over the media host; with author, time and status of each message."""
    conversation = Conversation(scene.bob, lines_of(scene, 2), unread=1)
    await scene.account.phone.send_history(conversation, inline=inline)
    (part,) = await synced(scene, 1)
    (chat,) = part["conversations"]
    assert (chat["ID"], chat["unreadCount"], chat["name"]) == (str(scene.bob.lid), 1, "Bob")
    newest, oldest = (found["message"] for found in chat["messages"])
    assert newest["key"] == {"remoteJID": str(scene.bob.lid), "fromMe": False, "ID": "OLD1"}
    assert (newest["message"]["conversation"], newest["pushName"]) == ("old 1", "Bob")
    assert (oldest["key"]["fromMe"], oldest["status"]) == (True, "READ")
    assert oldest["messageTimestamp"] == "1700000000"
    assert part["phoneNumberToLidMappings"] == [
        {"pnJID": str(scene.bob.pn), "lidJID": str(scene.bob.lid)}
    ]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_history_in_parts(scene: Scene, newest_first: bool) -> None:
    """In the order that was asked for, with the progress made; a group's lines name their authors."""
    group = scene.server.add_group("Friends", scene.bob, scene.account)
    chats = (Conversation(scene.bob, lines_of(scene, 5)), Conversation(group, lines_of(scene, 2)))
    await scene.account.phone.send_history(
        *chats, sync=Sync.INITIAL_BOOTSTRAP, newest_first=newest_first, per_chunk=3, inline=True
    )
    parts = await synced(scene, 3)
    assert [(part["chunkOrder"], part["progress"]) for part in parts] == [
        (1, 33),
        (2, 66),
        (3, 100),
    ]
    found = [
        (chat["ID"], line["message"]["key"]["ID"], line["message"].get("participant"))
        for part in parts
        for chat in part["conversations"]
        for line in chat["messages"]
    ]
    order = [4, 3, 2, 1, 0] if newest_first else [0, 1, 2, 3, 4]
    assert [ident for chat, ident, _ in found[:5]] == [f"OLD{n}" for n in order]
    assert {chat for chat, _, _ in found[5:]} == {str(group.jid)}
    assert {who for _, ident, who in found[5:] if ident == "OLD1"} == {str(scene.bob.lid)}


async def test_push_names(scene: Scene) -> None:
    """The names that persons chose."""
    await scene.account.phone.send_push_names(scene.bob)
    (part,) = await synced(scene, 1)
    assert part["syncType"] == "PUSH_NAME"
    assert part["pushnames"] == [{"ID": str(scene.bob.lid), "pushname": "Bob"}]


# --- app state --------------------------------------------------------------------------------


async def test_the_push_name_lets_the_client_send_presence(scene: Scene) -> None:
    """Without it the library refuses; later changes arrive as well."""
    with pytest.raises(RuntimeError, match="without PushName"):
        await scene.client.call("presence", "available")
    for name in ("Our shop", "Our new shop"):
        await scene.account.phone.share_app_state(
            push_name=name, contacts={scene.bob.pn: f"Bob of {name}"}
        )
        while (await scene.client.call("get_me"))["PushName"] != name:
            pass  # each call is answered by the other process
    await scene.client.call("presence", "available")
    await scene.server.news.until(
        lambda: scene.account.presence == "available", 10, "presence of the account"
    )


async def test_chats_that_the_owner_reads_on_the_phone(scene: Scene) -> None:
    """The client gets all of them at once."""
    idents = [await scene.bob.send_text(scene.account, text) for text in ("one", "two")]
    scene.account.phone.read(scene.bob, *idents)
    seen = await scene.client.wait_for("ReceiptEv", lambda e: e["data"]["Type"] == "READ_SELF")
    assert seen["data"]["MessageIDs"] == idents
    assert seen["data"]["MessageSource"]["Chat"]["User"] == scene.bob.lid.user


# --- newsletters and calls --------------------------------------------------------------------


async def test_a_newsletter(scene: Scene) -> None:
    """Its text has the newsletter as sender, and is acknowledged."""
    newsletter = scene.server.add_newsletter()
    ident = newsletter.post_text(scene.account, "news")
    got = await scene.client.wait_for("MessageEv", lambda e: e["id"] == ident)
    assert (got["text"], got["chat"], got["sender"]) == (
        "news", str(newsletter.jid), str(newsletter.jid),
    )  # fmt: skip
    await scene.server.ledger.settled(scene.account)


async def test_a_call(scene: Scene) -> None:
    """It rings, and ends."""
    call = scene.bob.call(scene.account)
    offer = (await scene.client.wait("CallOfferEv"))["data"]
    assert offer["basicCallMeta"]["callID"] == call
    scene.bob.hang_up(scene.account, call)
    ended = (await scene.client.wait("CallTerminateEv"))["data"]
    assert (ended["basicCallMeta"]["callID"], ended["reason"]) == (call, "timeout")
    queue = scene.account.devices[1].queue
    await scene.server.news.until(lambda: not queue, 10, "acknowledgement of the call")
