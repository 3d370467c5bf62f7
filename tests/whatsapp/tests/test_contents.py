"""Everything that a peer can send, as the bare library parses it; and what the library sends itself."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.whatsapp import contents, pb, polls
from tests.whatsapp.attachments import MEDIA
from tests.whatsapp.contents import Target
from tests.whatsapp.driver import Scene, a_scene

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """One client for all of them."""
    async with a_scene(tmp_path_factory.mktemp("contents")) as scene:
        yield scene


async def message(scene: Scene, ident: str) -> dict[str, Any]:
    """The library's event of a message, without the secret that every message has."""
    event = await scene.client.wait_for("MessageEv", lambda event: event["id"] == ident)
    found: dict[str, Any] = event["message"]
    return {name: value for name, value in found.items() if name != "messageContextInfo"}


async def said(scene: Scene, content: pb.Message) -> dict[str, Any]:
    """Bob sends a content; the library's event."""
    return await message(scene, await scene.bob.send(scene.account, content))


async def test_an_ordinary_message_has_a_secret(scene: Scene) -> None:
    """32 bytes, as real clients send it; a reaction has none."""
    event = await scene.text("hello")
    assert len(event["message"]["messageContextInfo"]["messageSecret"]) == 44  # base64 of 32 bytes
    ident = await scene.bob.react(scene.account, event["id"], "👍")
    got = await scene.client.wait_for("MessageEv", lambda event: event["id"] == ident)
    assert "messageContextInfo" not in got["message"]


async def test_a_message_without_a_secret(scene: Scene) -> None:
    """From a client that adds none."""
    scene.bob.adds_secrets = False
    got = await scene.text("plain")
    scene.bob.adds_secrets = True
    assert got["message"] == {"conversation": "plain"}


async def test_a_reply_and_mentions(scene: Scene) -> None:
    """It names the quoted message and the mentioned persons."""
    bob, account = scene.bob, scene.account
    sent = await scene.client.send(bob.pn.user, "a question")
    got = await message(scene, await bob.reply(account, sent, "an answer"))
    context = got["extendedTextMessage"]["contextInfo"]
    assert (context["stanzaID"], context["participant"]) == (sent, str(account.lid))
    got = await message(scene, await bob.mention(account, "@you", account.phone))
    assert got["extendedTextMessage"]["contextInfo"]["mentionedJID"] == [str(account.lid)]


async def test_a_link_preview(scene: Scene) -> None:
    """Text, address and title."""
    content = contents.extended_text(
        "see https://example.org", link="https://example.org", title="T"
    )
    got = (await said(scene, content))["extendedTextMessage"]
    assert (got["matchedText"], got["title"]) == ("https://example.org", "T")


@pytest.mark.parametrize("kind", MEDIA)
async def test_a_file(scene: Scene, kind: str) -> None:
    """The library downloads and decrypts the announced file."""
    ident = await scene.bob.send_file(scene.account, kind, f"a {kind}".encode(), caption="look")
    got = await message(scene, ident)
    assert list(got) == [f"{kind}Message"]
    assert await scene.client.call("download", ident) == f"a {kind}"


async def test_a_file_that_the_client_sends(scene: Scene) -> None:
    """Bob downloads and decrypts it."""
    await scene.client.call("send_document", str(scene.bob.lid), "the text", "a.txt")
    got = await scene.bob.received(scene.account, text="see")
    assert scene.bob.download(got) == b"the text"


async def test_a_location(scene: Scene) -> None:
    """Fixed, and moving."""
    got = (await said(scene, contents.location(52.5, -13.25, "Here", "A street")))[
        "locationMessage"
    ]
    assert (got["degreesLatitude"], got["degreesLongitude"], got["name"]) == (52.5, -13.25, "Here")
    got = (await said(scene, contents.live_location(1.5, 2.5, "moving")))["liveLocationMessage"]
    assert (got["degreesLatitude"], got["caption"]) == (1.5, "moving")


async def test_contacts(scene: Scene) -> None:
    """One, and several."""
    got = (await said(scene, contents.contact("Eve", "+15550000009")))["contactMessage"]
    assert got["displayName"] == "Eve"
    assert "waid=15550000009" in got["vcard"]
    several = contents.contacts(("Eve", "+15550000009"), ("Ann", "+15550000008"))
    got = (await said(scene, several))["contactsArrayMessage"]
    assert [contact["displayName"] for contact in got["contacts"]] == ["Eve", "Ann"]


async def test_reactions(scene: Scene) -> None:
    """To the client's message, and to Bob's own; an empty one removes it."""
    bob, account = scene.bob, scene.account
    theirs, own = await scene.client.send(bob.pn.user, "hi"), await bob.send_text(account, "me too")
    got = (await message(scene, await bob.react(account, theirs, "👍")))["reactionMessage"]
    assert got["text"] == "👍"
    assert got["key"] == {"remoteJID": str(account.lid), "fromMe": False, "ID": theirs}
    got = (await message(scene, await bob.react(account, own, "", by=bob)))["reactionMessage"]
    assert got["text"] == ""
    assert got["key"] == {"remoteJID": str(account.lid), "fromMe": True, "ID": own}


async def test_the_client_reacts(scene: Scene) -> None:
    """Bob sees to which message."""
    ident = await scene.bob.send_text(scene.account, "react!")
    await message(scene, ident)
    lid = str(scene.bob.lid)
    sent = await scene.client.call("react", lid, lid, ident, "🎉")
    got = pb.decode((await scene.bob.received(scene.account, ident=sent)).content)
    reaction = pb.decode(pb.data(got, 46))
    assert pb.data(reaction, 2).decode() == "🎉"
    assert pb.data(pb.decode(pb.data(reaction, 1)), 3).decode() == ident


@pytest.mark.parametrize("wrapped", [False, True])
async def test_an_edit(scene: Scene, wrapped: bool) -> None:
    """Both forms are an edit to the library, which unwraps the second."""
    ident = await scene.bob.send_text(scene.account, "tpyo")
    change = await scene.bob.edit(scene.account, ident, "typo", wrapped=wrapped)
    got = (await message(scene, change))["protocolMessage"]
    assert (got["type"], got["key"]["ID"]) == ("MESSAGE_EDIT", ident)
    assert got["editedMessage"] == {"conversation": "typo"}


async def test_the_client_edits_and_deletes(scene: Scene) -> None:
    """Bob gets the id of the message."""
    lid = str(scene.bob.lid)
    ident = await scene.client.send(scene.bob.pn.user, "tpyo")
    for method, *rest in (("edit", "typo"), ("revoke",)):
        sent = await scene.client.call(method, lid, ident, *rest)
        got = (await scene.bob.received(scene.account, ident=sent)).content
        assert ident.encode() in got


async def test_a_message_is_deleted(scene: Scene) -> None:
    """The library reports which."""
    ident = await scene.bob.send_text(scene.account, "oops")
    got = (await message(scene, await scene.bob.revoke(scene.account, ident)))["protocolMessage"]
    assert (got["type"], got["key"]["ID"]) == ("REVOKE", ident)


async def test_a_poll_of_a_peer(scene: Scene) -> None:
    """The client votes, and Bob can read the vote."""
    bob, account = scene.bob, scene.account
    ident = await bob.poll(account, "Tea?", ["yes", "no"])
    got = (await message(scene, ident))["pollCreationMessageV3"]
    assert [option["optionName"] for option in got["options"]] == ["yes", "no"]
    vote = await bob.received(account, ident=await scene.client.call("vote", ident, "no"))
    target = Target(ident, bob.lid, account.lid, from_me=False)
    chosen = polls.read_vote(vote.content, target, bob.secret(ident), account.lid)
    assert chosen == {hashlib.sha256(b"no").digest()}


async def test_a_poll_of_the_client(scene: Scene) -> None:
    """Bob votes, and the library can read the vote; an empty vote withdraws it."""
    bob, account = scene.bob, scene.account
    ident = await scene.client.call("poll", str(bob.lid), "Tea?", "yes", "no")
    for options in (["yes"], []):
        vote = await bob.vote(account, ident, *options)
        assert "pollUpdateMessage" in await message(scene, vote)
        hashes = [hashlib.sha256(option.encode()).hexdigest() for option in options]
        assert await scene.client.call("read_vote", vote) == hashes


async def test_wrappers(scene: Scene) -> None:
    """View-once in its three forms, and ephemeral: the library unwraps them."""
    image = scene.bob.announce("image", b"an image")
    for version in (1, 2, 3):
        assert "imageMessage" in await said(scene, contents.view_once(image, version=version))
    got = await said(scene, contents.ephemeral(contents.text("gone soon")))
    assert got == {"conversation": "gone soon"}


async def test_a_message_that_devices_do_not_get(scene: Scene) -> None:
    """The library reports that it exists; it is acknowledged, and nothing follows."""
    ident = await scene.bob.send_hidden(scene.account)
    event = (await scene.client.wait("UndecryptableMessageEv"))["data"]
    assert (event["Info"]["ID"], event["IsUnavailable"]) == (ident, True)
    await scene.server.ledger.settled(scene.account)


async def test_messages_are_to_disappear(scene: Scene) -> None:
    """The chat's setting has changed."""
    got = (await said(scene, contents.disappearing(86400)))["protocolMessage"]
    assert (got["type"], got["ephemeralExpiration"]) == ("EPHEMERAL_SETTING", 86400)


async def test_an_unknown_kind(scene: Scene) -> None:
    """The library hands over an empty message."""
    assert await said(scene, contents.unknown()) == {}


async def test_typing_and_presence(scene: Scene) -> None:
    """Bob types, records, stops; he is online, and was."""
    for state in ("composing", "recording", "paused"):
        scene.bob.show_typing(scene.account, state)
    await scene.client.wait("ChatPresenceEv", 3)
    seen = [event["data"] for event in scene.client.events["ChatPresenceEv"]]
    assert [(s["State"], s["Media"]) for s in seen] == [
        ("COMPOSING", "TEXT"),
        ("COMPOSING", "AUDIO"),
        ("PAUSED", "TEXT"),
    ]
    scene.bob.show_presence(scene.account, available=True)
    scene.bob.show_presence(scene.account, available=False, last=1_700_000_000)
    await scene.client.wait("PresenceEv", 2)
    there, gone = (event["data"] for event in scene.client.events["PresenceEv"])
    assert not there["Unavailable"]
    assert (gone["Unavailable"], gone["LastSeen"]) == (True, "1700000000")


async def test_the_client_types(scene: Scene) -> None:
    """Bob sees it."""
    await scene.client.call("typing", str(scene.bob.lid))
    await scene.server.news.until(lambda: scene.bob.chat_states, 10, "typing")
    assert scene.bob.chat_states == [(scene.account, "composing")]
