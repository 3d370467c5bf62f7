"""The test server's faults on request, and the bare library's behaviour."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.whatsapp.driver import Scene, a_scene
from tests.whatsapp.people import FATAL_RECEIPT_KINDS

pytestmark = pytest.mark.asyncio(loop_scope="module")


# --- connections ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 403, 405, 409, 500])
async def test_a_stream_error_that_the_library_does_not_know(scene: Scene, code: int) -> None:
    """It is reported, and the client connects again."""
    await scene.account.end_stream(code)
    assert (await scene.client.wait("StreamErrorEv"))["data"]["Code"] == str(code)
    await scene.client.wait("DisconnectedEv")
    await scene.client.wait("ConnectedEv")


async def test_the_server_restarts(scene: Scene) -> None:
    """503: the client connects again."""
    await scene.account.end_stream(503)
    await scene.client.wait("DisconnectedEv")
    await scene.client.wait("ConnectedEv")
    assert scene.client.events["StreamErrorEv"] == []


async def test_the_client_has_to_reconnect(scene: Scene) -> None:
    """515: it does so silently."""
    await scene.account.end_stream(515)
    await scene.client.wait("ConnectedEv")
    assert scene.client.events["DisconnectedEv"] == []


async def test_a_stalled_upgrade(scene: Scene) -> None:
    """The client waits as long as necessary; messages sent meanwhile arrive then."""
    scene.server.stalling = True
    await scene.account.drop()
    await scene.server.wait_stalled()
    ident = await scene.bob.send_text(scene.account, "meanwhile")
    assert not scene.account.online
    scene.server.stalling = False
    assert (await scene.client.wait("MessageEv"))["id"] == ident


async def test_silence(scene: Scene) -> None:
    """The live connection gets no answers; afterwards everything continues."""
    await scene.client.send(scene.bob.pn.user, "answered")
    scene.account.silent = True
    ident = await scene.bob.send_text(scene.account, "unheard")
    sending = asyncio.create_task(scene.client.send(scene.bob.pn.user, "unanswered"))
    assert await scene.client.call("is_connected") is True
    assert scene.account.online
    assert scene.server.ledger.unreceipted(scene.account) == [ident]
    await scene.account.wait_unheard("message")
    assert not sending.done()
    scene.account.silent = False
    assert (await scene.client.wait("MessageEv"))["id"] == ident
    await scene.account.drop()
    await sending
    await scene.bob.received(scene.account, text="unanswered")


async def test_a_ban(tmp_path: Path) -> None:
    """The client is disconnected and gets the duration."""
    async with a_scene(tmp_path) as scene:
        await scene.account.ban(code=104, seconds=120)
        banned = (await scene.client.wait("TemporaryBanEv"))["data"]
        assert (banned["Code"], banned["Expire"]) == ("SENT_TOO_MANY_SAME_MESSAGE", "120")


async def test_the_session_is_taken_over(tmp_path: Path) -> None:
    """The client stays disconnected."""
    async with a_scene(tmp_path) as scene:
        await scene.account.replace()
        await scene.client.wait("StreamReplacedEv")
        assert not scene.account.online


# --- receipts and acknowledgements ------------------------------------------------------------


@pytest.mark.parametrize("kind", FATAL_RECEIPT_KINDS)
async def test_a_receipt_of_an_unknown_kind(tmp_path: Path, kind: str) -> None:
    """It ends the library's event pump: connect() fails."""
    async with a_scene(tmp_path) as scene:
        ident = await scene.client.send(scene.bob.pn.user, "hello")
        await scene.bob.send_receipt(scene.account, ident, kind)
        await scene.client.wait("exited")
        log = scene.database.with_suffix(".log").read_text()
        assert "Receipt.Type not set" in log


async def test_slow_acknowledgements(scene: Scene) -> None:
    """The message arrives before the client knows that it was sent."""
    scene.account.ack_delay = 0.5
    sending = asyncio.create_task(scene.client.send(scene.bob.pn.user, "slowly"))
    got = await scene.bob.received(scene.account, text="slowly")
    assert not sending.done()
    assert await sending == got.ident
    scene.account.ack_delay = 0.0


async def test_a_message_that_whatsapp_refuses(scene: Scene) -> None:
    """The client learns the reason."""
    scene.account.ack_error = 463
    with pytest.raises(RuntimeError, match="463"):
        await scene.client.send(scene.bob.pn.user, "no")
    scene.account.ack_error = None


async def test_a_peer_that_cannot_read(scene: Scene) -> None:
    """It requests it, the library sends the message again, and it arrives once."""
    scene.bob.cannot_read = 1
    ident = await scene.client.send(scene.bob.pn.user, "say again")
    got = await scene.bob.received(scene.account, text="say again")
    assert got.ident == ident
    assert [message.text for message in scene.bob.inbox] == ["say again"]


async def test_a_member_that_cannot_read(scene: Scene) -> None:
    """In a group it gets the message for itself alone, with the key for the next ones."""
    group = scene.server.add_group("Friends", scene.bob, scene.account)
    scene.bob.cannot_read = 1
    for text in ("say again", "go on"):
        await scene.client.call("send_to", str(group.jid), text)
        assert (await scene.bob.received(scene.account, text=text)).group == group.jid


# --- delivery ---------------------------------------------------------------------------------


async def test_the_same_ciphertext_again(scene: Scene) -> None:
    """The library receipts it once more, and emits no event."""
    got = await scene.text("once")
    await scene.server.ledger.settled(scene.account)
    scene.account.redeliver(got["id"])
    await scene.server.ledger.settled(scene.account)
    marker = await scene.text("marker")
    assert [message["id"] for message in scene.client.messages] == [got["id"], marker["id"]]
    sent = scene.server.ledger.sent_to(scene.account)
    assert next(entry.wire for entry in sent if entry.ident == got["id"]) == 2


async def test_the_same_message_in_another_ciphertext(scene: Scene) -> None:
    """The library hands it over twice under one id."""
    got = await scene.text("twice")
    await scene.server.ledger.settled(scene.account)
    scene.account.redeliver(got["id"], anew=True)
    again = await scene.client.wait("MessageEv", 2)
    assert (again["id"], again["text"]) == (got["id"], "twice")
    with pytest.raises(ValueError, match="no message"):
        scene.account.redeliver("NEVER SENT")


async def test_another_clock(scene: Scene) -> None:
    """A message bears the server's time."""
    clock = scene.server.clock
    scene.server.clock = lambda: 1_234_567_890.5
    got = await scene.text("long ago")
    scene.server.clock = clock
    assert got["at"] // 1000 == 1_234_567_890
