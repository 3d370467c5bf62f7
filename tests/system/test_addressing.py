"""Which addresses a message has on the wire, and which chat and author a change or a receipt is about.

The real daemon and library; the test server's people read what the library sent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.protobufs import Message
from tests.system.rest import API, a_site, post
from tests.system.systems import System, a_system
from tests.whatsapp import Peer, contents, pb
from tests.whatsapp.contents import Target, with_secret
from tests.whatsapp.groups import Group
from tests.whatsapp.people import Addressing
from tests.whatsapp.wire import STATUS
from wad.core.errors import BadInput, NotSupported

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Everything up, the account paired."""
    async with a_system(tmp_path) as system:
        await system.pair()
        yield system


async def send(system: System, operation: str = "send", **params: Any) -> dict[str, Any]:
    """Send something from the account; the entry once it has left."""
    reply = await system.daemon.call(
        f"messages.{operation}", account="shop", **{"wait": 30, **params}
    )
    entry: dict[str, Any] = reply["message"]
    assert entry["state"] in ("sent", "delivered", "read"), entry
    return entry


async def got(system: System, entry: dict[str, Any], reader: Peer | None = None) -> Any:
    """What Bob, or another reader, received of it: a waE2E.Message."""
    reader = reader or system.bob
    received = await reader.received(system.account, ident=entry["wa_id"])
    return Message.FromString(received.content)


async def shown(system: System, wa_id: str) -> dict[str, Any]:
    """A stored message."""
    (found,) = [m for m in await system.daemon.messages("shop") if m["wa_id"] == wa_id]
    return dict(found)


def chat_of(message: dict[str, Any]) -> str:
    """The chat in which a message is shown."""
    return str(message["thread"].partition("__")[2])


async def address_book(system: System) -> None:
    """Until the library has the phone's address book."""
    (file,) = (system.daemon.state / "sessions").glob("*/session.db")
    async with asyncio.timeout(30):
        while True:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
                if db.execute("SELECT 1 FROM whatsmeow_contacts WHERE full_name != ''").fetchone():
                    return
            await asyncio.sleep(0.1)


async def when(system: System, wa_id: str, field: str) -> dict[str, Any]:
    """A stored message, once this field is set."""
    async with asyncio.timeout(30):
        while not (found := await shown(system, wa_id))[field]:
            await asyncio.sleep(0.05)
    return found


async def written(system: System, author: Peer, to: Any, text: str) -> dict[str, Any]:
    """A message to the account or a group, as it is stored."""
    ident = await author.send_text(to, text)
    await system.stored([ident])
    return await shown(system, ident)


# --- what is sent ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_number", [False, True], ids=["by LID", "by number"])
async def test_a_group_is_written_to_in_its_own_addresses(system: System, by_number: bool) -> None:
    """Reactions, replies, mentions, edits and revokes name members as the group does; wad shows numbers."""
    bob, account = system.bob, system.account
    carol = system.server.add_peer("15550000033", name="Carol")
    for peer in (bob, carol):  # their numbers and LIDs are known
        await written(system, peer, account, "hi")
    group = system.server.add_group("Team", carol, bob, account, by_number=by_number)
    his, to = await written(system, bob, group, "who takes this?"), str(group.jid)
    assert his["sender"] == str(bob.pn)
    bobs, carols, ours = (str(group.address(one)) for one in (bob, carol, account.phone))

    message = await got(system, await send(system, "react", message=his["id"], emoji="👍"), carol)
    key = message.reactionMessage.key
    assert (key.remoteJID, key.fromMe, key.participant, key.ID) == (to, False, bobs, his["wa_id"])

    text = f"@{carol.pn.user}, @{bob.pn.user}: I do"
    mentions = [f"+{carol.pn.user}", f"+{bob.pn.user}"]
    reply = await send(system, to=to, text=text, reply_to=his["id"], mentions=mentions)
    message = (await got(system, reply, carol)).extendedTextMessage
    assert (message.contextInfo.stanzaID, message.contextInfo.participant) == (his["wa_id"], bobs)
    assert list(message.contextInfo.mentionedJID) == [carols, bobs]
    assert message.text == f"@{carols.partition('@')[0]}, @{bobs.partition('@')[0]}: I do"
    stored = await shown(system, reply["wa_id"])
    assert (stored["text"], stored["mentions"]) == (text, [str(carol.pn), str(bob.pn)])
    assert stored["reply_to"]["sender"] == str(bob.pn)

    own = await send(system, to=to, text="and that", reply_to=reply["id"])
    context = (await got(system, own, carol)).extendedTextMessage.contextInfo
    assert (context.stanzaID, context.participant) == (reply["wa_id"], ours)
    on_phone = await account.phone.write_text(group, "from the phone")
    await system.stored([on_phone])
    quote = await send(system, to=to, text="I did", reply_to=(await shown(system, on_phone))["id"])
    context = (await got(system, quote, carol)).extendedTextMessage.contextInfo
    assert context.participant == ours

    change = await got(system, await send(system, "edit", message=own["id"], text="it"), carol)
    key = change.editedMessage.message.protocolMessage.key
    assert (key.remoteJID, key.fromMe, key.participant, key.ID) == (to, True, "", own["wa_id"])
    change = await got(system, await send(system, "revoke", message=own["id"]), carol)
    key = change.protocolMessage.key
    assert (key.remoteJID, key.fromMe, key.participant, key.ID) == (to, True, "", own["wa_id"])


@pytest.mark.parametrize(
    "addressing", [Addressing.LID_WITH_PN, Addressing.LID, Addressing.PN_WITH_LID]
)
async def test_a_direct_chat_is_named_as_it_came(system: System, addressing: Addressing) -> None:
    """A chat under a LID is named by the LID, although its thread is named by the number; and the other way round."""
    bob, account = system.bob, system.account
    bob.addressing = addressing
    his = await written(system, bob, account, "hello")
    chat = str(bob.address)
    reaction = await send(system, "react", message=his["id"], emoji="👍")
    key = (await got(system, reaction)).reactionMessage.key
    assert (key.remoteJID, key.fromMe, key.participant) == (chat, False, "")
    ours = await send(system, to=chat_of(his), text="good", reply_to=his["id"])
    context = (await got(system, ours)).extendedTextMessage.contextInfo
    assert (context.stanzaID, context.participant) == (his["wa_id"], chat)
    # The library sends to the LID, whatever it was given.
    again = await send(system, to=chat_of(his), text="better", reply_to=ours["id"])
    context = (await got(system, again)).extendedTextMessage.contextInfo
    assert (context.stanzaID, context.participant) == (ours["wa_id"], str(account.lid))
    change = await got(system, await send(system, "revoke", message=ours["id"]))
    key = change.protocolMessage.key
    assert (key.remoteJID, key.fromMe) == (str(bob.lid), True)


# --- statuses ----------------------------------------------------------------------------------------


async def test_an_answer_to_a_status_goes_to_its_author(system: System) -> None:
    """And to nobody else; nothing but a status is sent to all contacts."""
    bob, account = system.bob, system.account
    carol = system.server.add_peer("15550000033", name="Carol")
    await account.phone.share_app_state(push_name="Shop", contacts={carol.pn: "Carol"})
    status = await written(system, bob, system.server.status_of(bob), "having lunch")
    assert (chat_of(status), status["sender"]) == (str(STATUS), str(bob.pn))
    entry = await send(system, to=f"+{bob.pn.user}", text="enjoy", reply_to=status["id"])
    message = (await got(system, entry)).extendedTextMessage
    context = message.contextInfo
    assert (message.text, context.stanzaID) == ("enjoy", status["wa_id"])
    assert (context.participant, context.remoteJID) == (str(bob.lid), str(STATUS))
    assert context.quotedMessage.conversation == "having lunch"
    stored = await shown(system, entry["wa_id"])
    assert (chat_of(stored), stored["reply_to"]["sender"]) == (str(bob.pn), str(bob.pn))
    with pytest.raises(BadInput, match="is by"):
        await send(system, to=f"+{carol.pn.user}", text="enjoy", reply_to=status["id"])
    with pytest.raises(NotSupported, match="all contacts"):
        await send(system, to=str(STATUS), text="enjoy", reply_to=status["id"])
    with pytest.raises(NotSupported, match="all contacts"):
        await send(system, "react", message=status["id"], emoji="👍")
    assert not carol.inbox


async def test_a_status_is_posted_and_deleted(system: System) -> None:
    """It goes to the contacts of the phone's address book, once; their receipts count."""
    account, bob = system.account, system.bob
    carol = system.server.add_peer("15550000033", name="Carol")
    await account.phone.share_app_state(push_name="Shop", contacts={carol.pn: "Carol"})
    await address_book(system)
    entry = await send(system, "post_status", text="closed on Friday", client_id="friday")
    message = (await got(system, entry, carol)).extendedTextMessage
    assert (message.text, message.backgroundArgb) == ("closed on Friday", 0xFF128C7E)
    assert carol.inbox[-1].group == STATUS
    stored = await shown(system, entry["wa_id"])
    assert (chat_of(stored), stored["direction"], stored["kind"]) == (
        str(STATUS),
        "outbound",
        "text",
    )
    await carol.send_receipt(account, entry["wa_id"], "read")
    async with asyncio.timeout(30):
        while (await shown(system, entry["wa_id"]))["status"] != "delivered":
            await asyncio.sleep(0.05)
    again = await send(system, "post_status", text="closed on Friday", client_id="friday")
    assert again["id"] == entry["id"]
    change = await got(system, await send(system, "revoke", message=entry["id"]), carol)
    key = change.protocolMessage.key
    assert (key.remoteJID, key.fromMe, key.ID) == (str(STATUS), True, entry["wa_id"])
    assert len(carol.inbox) == 2
    assert not bob.inbox


async def test_a_status_that_a_crash_interrupts_is_uncertain(tmp_path: Path) -> None:
    """It is not posted again; the receipt of a contact settles it."""
    async with a_system(tmp_path, WAD_ENGINE_RETRY_BASE="0.1") as system:
        await system.pair()
        account = system.account
        carol = system.server.add_peer("15550000033", name="Carol")
        carol.auto_receipts = False
        await account.phone.share_app_state(push_name="Shop", contacts={carol.pn: "Carol"})
        await address_book(system)
        account.acks_messages = False
        reply = await system.daemon.call("messages.post_status", account="shop", text="closed")
        entry = reply["message"]
        ident = (await carol.received(account, text="closed")).ident
        account.acks_messages = True
        worker = (await system.daemon.account("shop"))["worker"]["pid"]
        os.kill(worker, signal.SIGKILL)
        await system.daemon.wait_account(
            "shop",
            lambda s: s["state"] == "connected" and s["worker"]["pid"] != worker,
            "another worker",
        )
        await in_state(system, entry["id"], "uncertain", ident)
        await carol.send_receipt(account, ident, "delivery", group=system.server.status_of(carol))
        await in_state(system, entry["id"], "delivered", ident)
        assert [one.text for one in carol.inbox] == ["closed"]


async def in_state(system: System, entry: str, state: str, wa_id: str) -> None:
    """Until an entry of the outbox is in a state, with this WhatsApp id."""
    async with asyncio.timeout(30):
        while True:
            entries = (await system.daemon.call("outbox.list", account="shop"))["entries"]
            if (state, wa_id) in [(e["state"], e["wa_id"]) for e in entries if e["id"] == entry]:
                return
            await asyncio.sleep(0.05)


async def test_no_way_leads_to_all_contacts(tmp_path: Path) -> None:
    """Neither HTTP nor the replaced backend's route queues a message for status@broadcast."""
    async with a_site(tmp_path) as system:
        account = (await system.pair())["id"]
        thread = f"{account}__{STATUS}"
        for path, content in (
            ("/api/operations/messages.send", {"account": "shop", "to": str(STATUS), "text": "x"}),
            (f"{API}/send-message", {"accountId": account, "to": str(STATUS), "message": "x"}),
            (f"{API}/send-message", {"accountId": account, "threadId": thread, "message": "x"}),
        ):
            reply = await post(system, path, content)
            assert 400 <= reply.status < 500 or reply.status == 501, reply
            assert "all contacts" in json.dumps(reply.document), reply
        assert (await system.daemon.call("outbox.list", account="shop"))["entries"] == []


# --- what is received --------------------------------------------------------------------------------


async def test_what_another_chat_says_about_our_message_changes_nothing(system: System) -> None:
    """Carol knows the id of our message to Bob: her receipt, reaction, edit, revoke, pin and vote are not about it."""
    bob, account = system.bob, system.account
    carol = system.server.add_peer("15550000033", name="Carol")
    bob.auto_receipts = False
    entry = await send(system, to=f"+{bob.pn.user}", text="for Bob")
    wa_id = entry["wa_id"]
    before = await shown(system, wa_id)
    assert before["status"] == "sent"
    await carol.send_receipt(account, wa_id, "read")
    for from_me in (False, True):
        target = Target(wa_id, account.lid, account.lid, from_me=from_me)
        at = system.server.now()
        for change in (
            contents.reaction(target, "👎", at),
            contents.edit(target, contents.text("forged"), at),
            contents.revoke(target),
            {63: {1: target.key(), 2: 1, 3: at * 1000}, 35: {5: 86_400}},
            {51: {1: target.key(), 2: 1, 3: at * 1000}},
        ):
            await carol.send(account, change)
    await written(system, carol, account, "last")
    assert await shown(system, wa_id) == before
    # Bob's own are applied; his receipt does not name his number.
    await bob.react(account, wa_id, "👍")
    await when(system, wa_id, "reactions")
    await bob.send_receipt(account, wa_id, "read")
    async with asyncio.timeout(30):
        while (await shown(system, wa_id))["status"] != "read":
            await asyncio.sleep(0.05)


async def test_a_reaction_in_a_group_is_for_the_author_that_it_names(system: System) -> None:
    """Carol repeats the id of Bob's message in the group: what is said about hers is not shown at his."""
    bob, account = system.bob, system.account
    carol = system.server.add_peer("15550000033", name="Carol")
    group = system.server.add_group("Team", carol, bob, account)
    ident = await bob.send_text(group, "the plan")
    await system.stored([ident])
    await repeat(system, carol, group, ident)
    await carol.react(group, ident, "👎", by=carol)
    await bob.react(group, ident, "👍", by=bob)
    await written(system, bob, group, "last")
    found = {
        m["sender"]: [one["text"] for one in m["reactions"]]
        for m in await system.daemon.messages("shop")
        if m["wa_id"] == ident
    }
    assert found == {str(bob.pn): ["👍"], str(carol.pn): ["👎"]}


async def repeat(system: System, author: Peer, group: Group, ident: str) -> None:
    """Another message with the id of one that is stored."""
    content: pb.Message = with_secret({1: "another plan"})
    await author.send(group, content, id=ident)
    async with asyncio.timeout(30):
        while [m["wa_id"] for m in await system.daemon.messages("shop")].count(ident) != 2:
            await asyncio.sleep(0.05)
