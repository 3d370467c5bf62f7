"""The test server against the bare library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.whatsapp import Failure, contents
from tests.whatsapp.driver import Scene, a_client, a_scene
from tests.whatsapp.queries import NumberAnswer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def alone(tmp_path: Path) -> AsyncIterator[Scene]:
    """An account with a client of the library, connected, for one test."""
    async with a_scene(tmp_path) as scene:
        yield scene


# --- linking and logging in -------------------------------------------------------------------


async def test_a_scanned_code_links_a_device(alone: Scene) -> None:
    """The client has both of its addresses, and the account its device."""
    me = await alone.client.call("get_me")
    assert me["JID"]["User"] == alone.account.pn.user
    assert me["LID"]["User"] == alone.account.lid.user
    assert list(alone.account.devices) == [1]
    paired = await alone.client.wait("PairStatusEv")
    assert paired["data"]["Status"] == "SUCCESS"


async def test_a_restart_needs_no_code(alone: Scene) -> None:
    """The second process logs in with the first one's session."""
    await alone.client.kill()
    await alone.account.wait_offline()
    async with a_client(alone.server, alone.database) as again:
        await again.wait("ConnectedEv")
        assert again.events["qr"] == []
    assert alone.account.logins == 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def linked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """An account whose client is paired and was stopped; its database is for copies."""
    async with a_scene(tmp_path_factory.mktemp("linked")) as scene:
        await scene.client.kill()
        await scene.account.wait_offline()
        yield scene


@pytest.mark.parametrize(
    ("failure", "event", "data"),
    [
        (Failure(401), "LoggedOutEv", {"OnConnect": True, "Reason": "LOGGED_OUT"}),
        (Failure(403), "LoggedOutEv", {"OnConnect": True, "Reason": "MAIN_DEVICE_GONE"}),
        (Failure(406), "LoggedOutEv", {"OnConnect": True, "Reason": "UNKNOWN_LOGOUT"}),
        (Failure(402, code=101, expire=60), "TemporaryBanEv", {"Expire": "60"}),
        (Failure(405), "ClientOutdatedEv", {}),
        (Failure(400, message="no"), "ConnectFailureEv", {"Message": "no"}),
        (Failure(409), "ConnectFailureEv", {}),
        (Failure(501), "ConnectFailureEv", {}),
        (Failure(500), "DisconnectedEv", {}),
        (Failure(503), "DisconnectedEv", {}),
    ],
    ids=lambda value: str(value.reason) if isinstance(value, Failure) else "",
)
async def test_a_refused_login(
    linked: Scene, tmp_path: Path, failure: Failure, event: str, data: dict[str, object]
) -> None:
    """Each reason is the event in docs/internals/whatsapp-protocol.md#refusals-and-stream-errors."""
    database = tmp_path / "client.db"
    database.write_bytes(linked.database.read_bytes())
    linked.account.login_failure = failure
    async with a_client(linked.server, database) as client:
        seen = await client.wait(event)
        assert seen["data"].items() >= data.items()
        assert client.events["ConnectedEv"] == []


@pytest.mark.parametrize("reason", [415, 418])
async def test_a_reason_that_the_library_cannot_name(
    linked: Scene, tmp_path: Path, reason: int
) -> None:
    """connect() itself fails."""
    database = tmp_path / "client.db"
    database.write_bytes(linked.database.read_bytes())
    linked.account.login_failure = Failure(reason)
    async with a_client(linked.server, database) as client:
        await client.wait("exited")
        assert "ConnectFailure.Reason not set" in database.with_suffix(".log").read_text()


# --- messages ---------------------------------------------------------------------------------


async def test_texts_both_ways(scene: Scene) -> None:
    """Bob writes, the client answers, Bob reads it; his receipts arrive."""
    scene.bob.auto_read = True
    got = await scene.text("hello")
    assert (got["text"], got["name"], got["from_me"]) == ("hello", "Bob", False)
    assert (got["chat"], got["sender"]) == (str(scene.bob.lid), str(scene.bob.lid))
    assert got["alt"] == str(scene.bob.pn)
    ident = await scene.client.send(scene.bob.pn.user, "hi Bob")
    received = await scene.bob.received(scene.account, text="hi Bob")
    assert received.ident == ident
    await scene.client.wait("ReceiptEv", 2)
    receipts = [event["data"] for event in scene.client.events["ReceiptEv"]]
    assert [receipt["Type"] for receipt in receipts] == ["DELIVERED", "READ"]
    assert [receipt["MessageIDs"] for receipt in receipts] == [[ident], [ident]]


async def test_messages_keep_their_order(scene: Scene) -> None:
    """200 in a row arrive in order, each once."""
    sent = [await scene.bob.send_text(scene.account, f"text {n}") for n in range(200)]
    await scene.client.wait("MessageEv", 200)
    assert [message["id"] for message in scene.client.messages] == sent
    assert [message["text"] for message in scene.client.messages] == [
        f"text {n}" for n in range(200)
    ]


async def test_the_ledger_has_the_receipts(alone: Scene) -> None:
    """Sent, on the wire, receipted; and the client's messages, with their results."""
    ledger, account = alone.server.ledger, alone.account
    idents = [await alone.bob.send_text(account, text) for text in ("one", "two")]
    await ledger.settled(account)
    assert [entry.ident for entry in ledger.sent_to(account)] == idents
    assert ledger.delivered_on_wire(account) == idents
    assert sorted(ledger.receipted_by(account)) == sorted(idents)
    assert {entry.kind for entry in ledger.receipts_of(account)} == {"inactive"}
    assert ledger.unreceipted(account) == []
    ident = await alone.client.send(alone.bob.pn.user, "three")
    (entry,) = ledger.received_from(account)
    assert (entry.ident, entry.to, entry.text, entry.copies) == (
        ident, alone.bob.pn.user, "three", 1,
    )  # fmt: skip
    assert [e.kind for e in ledger.receipts_sent(account)] == ["delivery"]


async def test_the_clients_read_receipts(scene: Scene) -> None:
    """Its read receipt is in the ledger."""
    got = await scene.text("read me")
    await scene.client.call("mark_read", got["id"], got["chat"])
    await scene.server.news.until(
        lambda: "read" in [r.kind for r in scene.server.ledger.receipts_of(scene.account)],
        10,
        "read receipt",
    )


async def test_unreceipted_messages_are_sent_again(alone: Scene) -> None:
    """A kill -9 with messages in transit: the next process receives those that are still in the queue."""
    account = alone.account
    await alone.client.kill()
    await account.wait_offline()
    sent = [await alone.bob.send_text(account, f"text {n}") for n in range(20)]
    assert list(account.devices[1].queue) == [("message", ident, "") for ident in sent]
    async with a_client(alone.server, alone.database) as again:
        await again.wait("MessageEv", 20)
        assert [message["id"] for message in again.messages] == sent
        await alone.server.ledger.settled(account)
    assert account.devices[1].queue == {}


async def test_an_undecryptable_message_is_sent_again(scene: Scene) -> None:
    """The client requests it, the peer starts a new session, the text arrives under the same id."""
    ident = await scene.bob.send(scene.account, contents.text("secret"), garbled=True)
    undecryptable = await scene.client.wait("UndecryptableMessageEv")
    assert undecryptable["data"]["Info"]["ID"] == ident
    message = await scene.client.wait("MessageEv")
    assert (message["id"], message["text"]) == (ident, "secret")
    assert (await scene.text("and on"))["text"] == "and on"


async def test_messages_that_the_owner_sends_from_the_phone(scene: Scene) -> None:
    """The client gets a copy, in the chat with Bob, from itself."""
    ident = await scene.account.phone.write_text(scene.bob, "from my phone")
    copy = await scene.client.wait_for("MessageEv", lambda e: e["from_me"])
    assert (copy["id"], copy["text"], copy["from_me"]) == (ident, "from my phone", True)
    assert (copy["chat"], copy["recipient_alt"]) == (str(scene.bob.lid), str(scene.bob.pn))
    assert (await scene.bob.received(scene.account)).ident == ident


async def test_the_phone_sees_what_the_client_sends(scene: Scene) -> None:
    """Its copy has the same content as the message to Bob."""
    ident = await scene.client.send(scene.bob.pn.user, "hello")
    copy = scene.account.phone.copies[-1]
    assert (copy.ident, copy.text) == (ident, "hello")


async def test_two_devices_of_an_account(scene: Scene, tmp_path: Path) -> None:
    """Both receive Bob's messages, and each the other one's."""
    async with a_client(scene.server, tmp_path / "second.db") as second:
        await second.pair(scene.account)
        assert list(scene.account.devices) == [1, 2]
        await scene.text("to both")
        assert (await second.wait("MessageEv"))["text"] == "to both"
        ident = await second.send(scene.bob.pn.user, "from the second")
        copy = await scene.client.wait_for("MessageEv", lambda e: e["id"] == ident)
        assert (copy["text"], copy["from_me"], copy["chat"]) == (
            "from the second", True, str(scene.bob.lid),
        )  # fmt: skip
    scene.account.unlink(2)


async def test_two_accounts_write_to_each_other(scene: Scene, tmp_path: Path) -> None:
    """One client reads the other one's messages, and vice versa."""
    other = scene.server.add_account("15550000003", name="Other")
    async with a_client(scene.server, tmp_path / "other.db") as client:
        await client.pair(other)
        await scene.client.send(other.pn.user, "ping")
        got = await client.wait("MessageEv")
        assert (got["text"], got["name"]) == ("ping", "Shop")
        await client.send(scene.account.pn.user, "pong")
        back = await scene.client.wait("MessageEv")
        assert (back["text"], back["alt"]) == ("pong", f"{other.pn.user}:1@s.whatsapp.net")


# --- connections ------------------------------------------------------------------------------


async def test_a_dropped_connection_is_restored(scene: Scene) -> None:
    """Later messages arrive."""
    await scene.account.drop()
    await scene.client.wait("DisconnectedEv")
    await scene.client.wait("ConnectedEv")
    assert (await scene.text("still there"))["text"] == "still there"


async def test_the_network_is_down_for_a_while(scene: Scene) -> None:
    """Messages sent meanwhile wait."""
    scene.server.refusing = True
    await scene.account.drop()
    ident = await scene.bob.send_text(scene.account, "meanwhile")
    scene.server.refusing = False
    assert (await scene.client.wait("MessageEv"))["id"] == ident


async def test_the_phone_removes_the_device(alone: Scene) -> None:
    """The client is logged out; its login is refused from now on."""
    await alone.account.log_out()
    assert (await alone.client.wait("LoggedOutEv"))["data"]["OnConnect"] is False
    assert alone.account.devices == {}


async def test_the_client_logs_itself_out(alone: Scene) -> None:
    """The account forgets the device."""
    await alone.client.call("logout")
    assert alone.account.devices == {}


async def test_another_login_replaces_the_first(alone: Scene, tmp_path: Path) -> None:
    """The first process is notified, and stays disconnected."""
    copy = tmp_path / "copy.db"
    copy.write_bytes(alone.database.read_bytes())
    async with a_client(alone.server, copy) as second:
        await second.wait("ConnectedEv")
        await alone.client.wait("StreamReplacedEv")
        got = asyncio.create_task(second.wait("MessageEv"))
        await alone.bob.send_text(alone.account, "to the second")
        assert (await got)["text"] == "to the second"
    assert alone.client.messages == []


# --- queries ----------------------------------------------------------------------------------


async def test_media_round_trip(scene: Scene) -> None:
    """The client can download its upload."""
    assert await scene.client.call("media_round_trip", "a document") == "a document"


async def test_numbers_on_whatsapp(scene: Scene) -> None:
    """Bob is, a stranger is not."""
    found = await scene.client.call("is_on_whatsapp", f"+{scene.bob.pn.user}", "+15559999999")
    assert [user.get("IsIn", False) for user in found] == [True, False]


@pytest.mark.parametrize("answer", NumberAnswer)
async def test_a_number_is_named_as_whatsapp_writes_it(scene: Scene, answer: NumberAnswer) -> None:
    """By the LID, since 2026-07; by its own number before."""
    scene.server.add_spelling("15550009999", scene.bob)
    scene.server.number_answer = answer
    (found,) = await scene.client.call("is_on_whatsapp", "+15550009999")
    named = scene.bob.pn if answer is NumberAnswer.PN else scene.bob.lid
    assert (found["JID"]["User"], found["JID"]["Server"]) == (named.user, named.server)


async def test_an_unanswered_message_is_sent_again(scene: Scene) -> None:
    """Without an ack the same frame is sent again after a reconnect, and is read once."""
    await scene.client.send(scene.bob.pn.user, "first")
    scene.account.acks_messages = False
    sending = asyncio.create_task(scene.client.send(scene.bob.pn.user, "twice"))
    await scene.bob.received(scene.account, text="twice")
    scene.account.acks_messages = True
    await scene.account.drop()
    ident = await sending
    entries = scene.server.ledger.received_from(scene.account)
    assert [entry.copies for entry in entries[-2:]] == [1, 2]
    assert [message.ident for message in scene.bob.inbox if message.text == "twice"] == [ident]
