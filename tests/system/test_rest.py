"""One contract test for each route of the replaced backend, against the live daemon with the real library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.http_client import ask
from tests.support.reply_types import check_reply
from tests.system.rest import ADMIN, API, BOB, a_site, get, post
from tests.system.systems import System
from wad.api.views.session import SESSION_PIECE
from wad.core.token import Role, named
from wad.http.probes import PROBES

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[System]:
    """Everything up, with a token for HTTP; nothing paired."""
    async with a_site(tmp_path) as system:
        yield system


OF_THE_NUMBER = "account_prod_" + hashlib.sha256(b"+15550000001").hexdigest()[:32]
"""The replaced backend's id of the account with this number."""


def is_timestamp(value: Any) -> bool:
    """Whether it is a Timestamp of Firestore in JSON."""
    return set(value) == {"_seconds", "_nanoseconds"} and all(
        type(n) is int for n in value.values()
    )


# --- accounts -------------------------------------------------------------------------------------


async def test_accounts(site: System) -> None:
    """GET /api/whatsapp/accounts and its alias: every field of the reference's account."""
    shown = await site.pair()
    document = await get(site, f"{API}/accounts")
    assert {name: document[name] for name in ("success", "cached", "instanceId", "waMode")} == {
        "success": True, "cached": False, "instanceId": "test", "waMode": "active",
    }  # fmt: skip
    assert isinstance(document["lockReason"], str)
    assert document["requestId"].startswith("req_")
    (account,) = document["accounts"]
    assert is_timestamp(account.pop("lastUpdate"))
    assert account.pop("createdAt").endswith("Z")
    assert account == {
        "id": shown["id"], "name": "shop", "phone": "+15550000001", "status": "connected", "qrCode": None,
        "pairingCode": None, "lastError": None, "passiveModeReason": None,
    }  # fmt: skip
    assert (await get(site, "/accounts"))["accounts"][0]["id"] == shown["id"]


async def test_add_account_shows_a_code_and_connects(site: System) -> None:
    """POST /api/whatsapp/add-account, then the code in the list and the page, then the phone scans it."""
    reply = await post(site, f"{API}/add-account", {"name": "shop", "phone": "15550000001"})
    assert reply.status == 200
    account = reply.document["account"]
    assert account.pop("createdAt").endswith("Z")
    assert account == {
        "id": OF_THE_NUMBER, "name": "shop", "phone": "+15550000001", "status": "connecting", "qrCode": None,
        "pairingCode": None,
    }  # fmt: skip
    assert reply.document["existing"] is False
    await site.daemon.wait_account("shop", lambda shown: shown["qr"], "a code")
    (listed,) = (await get(site, f"{API}/accounts"))["accounts"]
    assert listed["status"] == "qr_ready"
    assert listed["qrCode"].startswith("data:image/png;base64,")
    page = await ask(site.daemon.port, f"{API}/qr/{OF_THE_NUMBER}", token=ADMIN)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"data:image/png;base64," in page.body
    await site.account.phone.scan(str((await site.daemon.account("shop"))["qr"]))
    await site.daemon.wait_state("shop", "connected")


async def test_add_account_of_a_known_number(site: System) -> None:
    """The account that has the number is the reply, however the number is written, with its session and its name."""
    shown = await site.pair()
    site.daemon.environ["WAD_HTTP_COUNTRY_CODE"] = "1"
    await site.daemon.end()
    await site.daemon.start()
    await site.daemon.wait_state("shop", "connected")
    for phone in ("+1 555 000 0001", "15550000001", "0 555 0000001"):
        reply = await post(site, f"{API}/add-account", {"name": "other", "phone": phone})
        assert (reply.status, reply.document["existing"]) == (200, True), reply
        assert reply.document["account"]["id"] == shown["id"]
        assert reply.document["account"]["status"] == "connected"
    (account,) = (await get(site, f"{API}/accounts"))["accounts"]
    assert account["name"] == "shop"


async def test_add_account_of_a_national_number(site: System) -> None:
    """It is refused without a country code, and never read as another number; with one it is international."""
    wanted = {"name": "shop", "phone": "0712 345 678"}
    refused = await post(site, f"{API}/add-account", wanted)
    assert (refused.status, refused.document["error"]) == (400, "bad_phone")
    site.daemon.environ["WAD_HTTP_COUNTRY_CODE"] = "40"
    await site.daemon.end()
    await site.daemon.start()
    added = await post(site, f"{API}/add-account", wanted)
    assert added.document["account"]["phone"] == "+40712345678"


async def test_an_account_that_is_added_again_finds_its_threads(site: System) -> None:
    """Its id follows from its number, as in the replaced backend."""
    ids = []
    for number in range(2):
        added = await post(site, f"{API}/add-account", {"name": "shop", "phone": "+15550000001"})
        ids.append(added.document["account"]["id"])
        await site.account.phone.scan(await site.daemon.qr("shop"))
        await site.daemon.wait_state("shop", "connected")
        if number == 0:
            await site.receive("before")
            await post(site, f"{API}/accounts/{ids[0]}", method="DELETE")
    assert ids == [OF_THE_NUMBER] * 2
    (thread,) = (await get(site, f"{API}/threads/{OF_THE_NUMBER}"))["threads"]
    assert (thread["id"], thread["lastMessageText"]) == (f"{OF_THE_NUMBER}__{BOB}", "before")


async def test_add_account_reports_errors(site: System) -> None:
    """A number that is none, a name that is taken, and too many accounts."""
    bad = await post(site, f"{API}/add-account", {"name": "shop", "phone": "12"})
    assert (bad.status, bad.document["error"]) == (400, "bad_phone")
    await post(site, f"{API}/add-account", {"name": "shop"})
    taken = await post(site, f"{API}/add-account", {"name": "shop"})
    assert (taken.status, taken.document["error"]) == (409, "conflict")
    await site.daemon.end()
    site.daemon.environ["WAD_HTTP_MAX_ACCOUNTS"] = "1"
    await site.daemon.start()
    full = await post(site, f"{API}/add-account", {"name": "other"})
    assert full.status == 429
    assert (full.document["maxAccounts"], full.document["currentAccounts"]) == (1, 1)
    assert full.document["error"] == "rate_limited"


async def test_regenerate_qr(site: System) -> None:
    """POST /api/whatsapp/regenerate-qr/:id: shows a code, repeats a fresh one, and never drops a session."""
    ident = (await site.daemon.call("accounts.add", name="shop"))["id"]
    first = await post(site, f"{API}/regenerate-qr/{ident}")
    assert first.status == 200
    assert (first.document["status"], first.document["accountId"]) == ("in_progress", ident)
    await site.daemon.wait_account("shop", lambda shown: shown["qr"], "a code")
    again = await post(site, f"{API}/regenerate-qr/{ident}", **{"X-Request-Id": "r-1"})
    assert again.status == 200
    assert (again.document["idempotent"], again.document["status"]) == (True, "qr_ready")
    assert again.document["qrCode"].startswith("data:image/png;base64,")
    assert 0 <= again.document["ageSeconds"] < 60
    assert again.document["requestId"] == "r-1"
    await site.account.phone.scan(await site.daemon.qr("shop"))
    await site.daemon.wait_state("shop", "connected")
    refused = await post(site, f"{API}/regenerate-qr/{ident}")
    assert (refused.status, refused.document["error"]) == (409, "invalid_state")
    assert refused.document["currentStatus"] == "connected"
    unknown = await post(site, f"{API}/regenerate-qr/nobody")
    assert (unknown.status, unknown.document["error"]) == (404, "account_not_found")


async def test_delete_account(site: System) -> None:
    """DELETE /api/whatsapp/accounts/:id, and a second time; it can be brought back."""
    ident = (await site.pair())["id"]
    reply = await post(site, f"{API}/accounts/{ident}", method="DELETE")
    assert reply.status == 200
    wanted = {"success": True, "accountId": ident, "status": "deleted", "deletedFromMemory": True}
    assert wanted.items() <= reply.document.items()
    assert reply.document["deletedFromFirestore"] is False
    assert (await get(site, f"{API}/accounts"))["accounts"] == []
    again = await post(site, f"{API}/accounts/{ident}", method="DELETE")
    assert (again.status, again.document["message"]) == (404, "Account not found")
    await site.daemon.call("accounts.restore", account=ident)
    await site.daemon.wait_state("shop", "connected")


async def test_rename_account(site: System) -> None:
    """PATCH /api/whatsapp/accounts/:id/name; the name stays after a restart."""
    ident = (await site.daemon.call("accounts.add", name="shop"))["id"]
    reply = await post(site, f"{API}/accounts/{ident}/name", {"name": "Boutique"}, "PATCH")
    assert reply.status == 200
    assert reply.document["account"] == {
        "id": ident, "name": "Boutique", "phone": None, "status": "needs_qr",
    }  # fmt: skip
    bad = await post(site, f"{API}/accounts/{ident}/name", {}, "PATCH")
    assert (bad.status, bad.document["error"]) == (400, "invalid_request")
    missing = await post(site, f"{API}/accounts/nobody/name", {"name": "x"}, "PATCH")
    assert missing.status == 404
    await site.daemon.end()
    await site.daemon.start()
    assert (await site.daemon.account(ident))["name"] == "Boutique"


async def test_health_of_an_account(site: System) -> None:
    """GET /api/whatsapp/accounts/:id/health follows the account."""
    ident = (await site.pair())["id"]
    before = await get(site, f"{API}/accounts/{ident}/health")
    assert before == {
        "success": True, "accountId": ident, "status": "connected", "connected": True, "lastRealMessageMs": None,
        "timeSinceLastRealMs": None, "isDegraded": False, "warning": None,
    }  # fmt: skip
    await site.receive("one")
    after = await get(site, f"{API}/accounts/{ident}/health")
    (message,) = await site.daemon.messages("shop")
    assert after["lastRealMessageMs"] == message["at_ms"]
    assert after["timeSinceLastRealMs"] >= 0
    await site.daemon.call("accounts.stop", account=ident)
    stopped = await get(site, f"{API}/accounts/{ident}/health")
    assert (stopped["connected"], stopped["isDegraded"]) == (False, True)
    assert stopped["warning"] == "stopped by the operator"


async def test_disconnect(site: System) -> None:
    """POST /api/whatsapp/disconnect/:id: it stays stopped after a restart, where the reference connected again."""
    ident = (await site.pair())["id"]
    reply = await post(site, f"{API}/disconnect/{ident}")
    assert reply.status == 200
    assert (reply.document["accountId"], reply.document["reason"]) == (ident, "user_disconnect")
    assert type(reply.document["tsDisconnect"]) is int
    await site.daemon.end()
    await site.daemon.start()
    assert (await site.daemon.account(ident))["state"] == "stopped"


async def test_reset(site: System) -> None:
    """POST /api/whatsapp/accounts/:id/reset: the phone forgets the device, and it can be paired again."""
    ident = (await site.pair())["id"]
    reply = await post(site, f"{API}/accounts/{ident}/reset")
    assert reply.status == 200
    wanted = {"success": True, "accountId": ident, "status": "needs_qr"}
    assert wanted.items() <= reply.document.items()
    assert (await site.daemon.account(ident))["state"] == "logged_out"
    await site.account.phone.scan(await site.daemon.qr(ident))
    await site.daemon.wait_state(ident, "connected")


# --- conversations --------------------------------------------------------------------------------


async def test_threads(site: System) -> None:
    """GET /api/whatsapp/threads/:id: what an inbox lists, with times as Firestore gives them."""
    ident = (await site.pair())["id"]
    await site.receive("one", "two")
    document = await get(site, f"{API}/threads/{ident}?limit=50&orderBy=lastMessageAt")
    (thread,) = document["threads"]
    assert document["count"] == 1
    assert document["nextCursor"] is None
    (newest,) = [m for m in await site.daemon.messages("shop") if m["text"] == "two"]
    assert thread["lastMessageAtMs"] == newest["at_ms"]
    assert type(thread["lastMessageAtMs"]) is int
    assert is_timestamp(thread["lastMessageAt"])
    assert thread["lastMessageAt"]["_seconds"] == newest["at_ms"] // 1000
    wanted = {
        "id": f"{ident}__{BOB}", "accountId": ident, "clientJid": BOB, "displayName": "Bob", "isLid": False,
        "lastMessageText": "two", "lastMessagePreview": "two", "lastMessageDirection": "inbound", "unreadCount": 2,
        "phoneE164": "+15550000012", "normalizedPhone": "+15550000012", "isGroup": False, "redirectTo": None,
        "archived": False, "hidden": False, "accountName": "shop", "lastMessageSenderName": "Bob",
        "updatedAt": thread["lastMessageAt"],
    }  # fmt: skip
    assert wanted.items() <= thread.items()


async def test_lists_of_an_unknown_account_are_empty(site: System) -> None:
    """As in the replaced backend, whose lists are queries; single documents are 404."""
    assert await get(site, f"{API}/threads/nobody") == {
        "success": True, "threads": [], "count": 0, "nextCursor": None,
    }  # fmt: skip
    assert await get(site, f"{API}/inbox/nobody") == {
        "success": True, "messages": [], "count": 0, "totalMessages": 0,
    }  # fmt: skip
    assert await get(site, f"{API}/messages?accountId=nobody") == {"success": True, "threads": []}
    for path in (f"{API}/messages/nobody/nobody__{BOB}", f"{API}/accounts/nobody/health"):
        unknown = await ask(site.daemon.port, path, token=ADMIN, headers={"X-Request-Id": "r-9"})
        assert (unknown.status, unknown.document["error"]) == (404, "account_not_found")
        assert unknown.document["accountId"] == "nobody"
        assert unknown.document["requestId"] == "r-9"


async def test_messages_page_by_page(site: System) -> None:
    """GET /api/whatsapp/messages/:account/:thread with a cursor: every message once, the newest first."""
    ident = (await site.pair())["id"]
    texts = [f"text {number}" for number in range(7)]
    await site.receive(*texts)
    path = f"{API}/messages/{ident}/{ident}__{BOB}"
    found: list[Any] = []
    after = ""
    while True:
        page = await get(site, f"{path}?limit=3&orderBy=createdAt{after}")
        assert page["count"] == len(page["messages"]) <= 3
        assert page["thread"]["id"] == f"{ident}__{BOB}"
        found += page["messages"]
        if page["nextCursor"] is None:
            break
        after = f"&after={page['nextCursor']}"
    assert [message["body"] for message in found] == texts[::-1]
    newest = found[0]
    assert is_timestamp(newest["tsClient"])
    assert newest["tsClientMs"] == newest["createdAtMs"] == newest["tsClient"]["_seconds"] * 1000
    wanted = {
        "accountId": ident, "threadId": f"{ident}__{BOB}", "clientJid": BOB, "direction": "inbound",
        "messageType": "text", "status": "delivered", "isDuplicate": False, "media": None, "senderName": "Bob",
        "senderDisplayName": "Bob", "senderPhoneE164": "+15550000012", "syncedAt": newest["ingestedAt"],
        "updatedAt": newest["ingestedAt"],
    }  # fmt: skip
    assert newest["tsSort"]["_seconds"] == newest["tsClient"]["_seconds"]
    assert newest["tsSort"]["_nanoseconds"] == (
        newest["arrivedUs"] - newest["tsClientMs"] * 1000
    ) * 1000 or (newest["tsSort"]["_nanoseconds"] == 999_999_000)
    assert wanted.items() <= newest.items()
    assert newest["key"]["remoteJid"] == BOB
    assert newest["waMessageId"] == newest["providerMessageId"] == newest["key"]["id"]
    assert len(newest["stableKeyHash"]) == 40
    port = site.daemon.port
    missing = await ask(
        port, f"{API}/messages/{ident}/{ident}__15550000099@s.whatsapp.net", token=ADMIN
    )
    assert (missing.status, missing.document["message"]) == (404, "Thread not found")
    other = await ask(port, f"{API}/messages/{ident}/acc-other__{BOB}", token=ADMIN)
    assert (other.status, other.document["error"]) == (403, "account_mismatch")
    odd = await ask(port, f"{path}?after=odd", token=ADMIN)
    assert odd.status == 400
    for limit in ("0", "-1", "x", "%C2%B2"):
        assert (await ask(port, f"{path}?limit={limit}", token=ADMIN)).status == 400


async def test_messages_by_query(site: System) -> None:
    """GET /api/whatsapp/messages?accountId&threadId: one thread, or the newest of every thread."""
    ident = (await site.pair())["id"]
    await site.receive("one")
    one = await get(site, f"{API}/messages?accountId={ident}&threadId={ident}__{BOB}")
    assert [message["body"] for message in one["messages"]] == ["one"]
    every = await get(site, f"{API}/messages?accountId={ident}")
    assert [m["body"] for thread in every["threads"] for m in thread["messages"]] == ["one"]
    missing = await ask(site.daemon.port, f"{API}/messages", token=ADMIN)
    assert (missing.status, missing.document["error"]) == (400, "invalid_request")


async def test_inbox(site: System) -> None:
    """GET /api/whatsapp/inbox/:id: the newest messages of all threads together, inbound ones too."""
    ident = (await site.pair())["id"]
    carol = site.server.add_peer("15550000013", name="Carol")
    await site.receive("one", "two")
    idents = [await carol.send_text(site.account, "three")]
    await site.stored(idents)
    document = await get(site, f"{API}/inbox/{ident}?limit=2")
    assert (document["count"], document["totalMessages"]) == (2, 3)
    newest = document["messages"][0]
    assert [m["body"] for m in document["messages"]] == ["three", "two"]
    assert newest["messageId"] == newest["id"]
    assert (newest["displayName"], newest["contactType"]) == ("Carol", "phone")
    assert newest["threadId"] == f"{ident}__15550000013@s.whatsapp.net"


# --- sending --------------------------------------------------------------------------------------


async def test_send_message(site: System) -> None:
    """POST /api/whatsapp/send-message: sent, and the same id again is the same message."""
    ident = (await site.pair())["id"]
    wanted = {"accountId": ident, "to": "+15550000012", "message": "hi", "clientMessageId": "c-1"}
    sent = await post(site, f"{API}/send-message", wanted)
    got = await site.bob.received(site.account, text="hi")
    assert sent.status == 200
    (stored,) = await site.daemon.messages("shop")
    ids = {"messageId": stored["id"], "waMessageId": got.ident, "clientMessageId": "c-1"}
    document = sent.document
    assert document.pop("requestId").startswith("req_")
    assert document == {"success": True, "status": "sent", **ids}
    again = await post(site, f"{API}/send-message", wanted, **{"X-Request-Id": "r-2"})
    assert again.document == {
        "success": True, "duplicate": True, "queued": False, "status": "sent", "requestId": "r-2", **ids,
    }  # fmt: skip
    other = await post(site, f"{API}/send-message", wanted | {"message": "other"})
    assert other.status == 409


async def test_send_message_in_a_thread(site: System) -> None:
    """The thread alone names the recipient; the request's id replaces a missing client id."""
    ident = (await site.pair())["id"]
    wanted = {"accountId": ident, "threadId": f"{ident}__{BOB}", "message": "hi"}
    sent = await post(site, f"{API}/send-message", wanted, **{"X-Request-Id": "r-1"})
    assert sent.document["clientMessageId"] == "r-1"
    again = await post(site, f"{API}/send-message", wanted, **{"X-Request-Id": "r-1"})
    assert again.document["duplicate"] is True
    assert again.document["messageId"] == sent.document["messageId"]
    await site.bob.received(site.account, text="hi")
    for change, status in (
        ({"to": "+15550000099"}, 400),
        ({"threadId": f"acc-other__{BOB}"}, 403),
        ({"threadId": "odd"}, 400),
        ({"threadId": ""}, 400),
        ({"accountId": "nobody"}, 404),
    ):
        refused = await post(site, f"{API}/send-message", wanted | change)
        assert refused.status == status, refused
        assert isinstance(refused.document["message"], str)


async def test_send_message_while_away(site: System) -> None:
    """It is queued, waits without an attempt, and is sent when the account is connected again."""
    ident = (await site.pair())["id"]
    await site.daemon.call("accounts.stop", account=ident)
    wanted = {"accountId": ident, "to": BOB, "message": "later", "clientMessageId": "c-2"}
    queued = (await post(site, f"{API}/send-message", wanted)).document
    assert (queued["success"], queued["queued"], queued["status"]) == (True, True, "queued")
    assert queued["waMessageId"] is None
    again = (await post(site, f"{API}/send-message", wanted)).document
    assert (again["duplicate"], again["queued"]) == (True, True)
    await site.daemon.call("accounts.start", account=ident)
    await site.bob.received(site.account, text="later")
    async with asyncio.timeout(30):
        while (sent := (await post(site, f"{API}/send-message", wanted)).document)[
            "status"
        ] != "sent":
            await asyncio.sleep(0.05)
    assert (sent["messageId"], sent["waMessageId"] is None) == (queued["messageId"], False)


async def test_send_message_without_a_recipient(site: System) -> None:
    """A number without WhatsApp is an error with its code, and not queued for ever."""
    ident = (await site.pair())["id"]
    wanted = {"accountId": ident, "to": "+15559999999", "message": "hi"}
    refused = await post(site, f"{API}/send-message", wanted)
    assert (refused.status, refused.document["error"]) == (422, "not_on_whatsapp")


# --- settings for replies -----------------------------------------------------------------------------


async def test_auto_reply_settings(site: System) -> None:
    """GET and POST /api/whatsapp/auto-reply-settings/:id: stored as sent; the note says that wad sends no replies."""
    ident = (await site.daemon.call("accounts.add", name="shop"))["id"]
    path = f"{API}/auto-reply-settings/{ident}"
    before = await get(site, path)
    assert (before["enabled"], before["prompt"], before["writesReplies"]) == (False, "", False)
    on = (await post(site, path, {"enabled": True, "prompt": "Be kind."})).document
    assert (on["success"], on["enabled"], on["prompt"]) == (True, True, "Be kind.")
    assert "wad itself sends none" in on["note"]
    await site.daemon.end()
    await site.daemon.start()
    assert await get(site, path) == on
    off = (await post(site, path, {"enabled": False})).document
    assert (off["enabled"], off["prompt"]) == (False, None)
    assert (await get(site, path))["prompt"] == ""
    assert await site.daemon.wadctl_json("account", "auto-reply", "shop") == {
        "account": ident, "enabled": False, "prompt": None,
    }  # fmt: skip


async def test_auto_reply_settings_of_later_apps(site: System) -> None:
    """Their other fields are returned as they were sent, and a change with wadctl keeps them."""
    ident = (await site.daemon.call("accounts.add", name="shop"))["id"]
    path = f"{API}/auto-reply-settings/{ident}"
    more = {
        "logic": {"steps": ["a"]}, "restrictions": "none", "pricing": [1, 2.5], "faq": [{"q": "?"}], "extraction": True,
    }  # fmt: skip
    sent = {"enabled": True, "prompt": "p", **more, "unheardOf": 1}
    kept = (await post(site, path, sent)).document
    assert more.items() <= kept.items()
    assert "unheardOf" not in kept
    await site.daemon.wadctl_json("account", "set-auto-reply", "shop", "false", "--prompt", "q")
    after = await get(site, path)
    assert (after["enabled"], after["prompt"]) == (False, "q")
    assert more.items() <= after.items()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({}, 400),
        ({"enabled": "yes"}, 400),
        ({"enabled": True, "prompt": 5}, 400),
        ({"enabled": True, "prompt": "x" * 40_000}, 413),
        ({"enabled": True, "faq": ["x" * 200] * 200}, 413),
    ],
)
async def test_auto_reply_settings_that_are_refused(
    site: System, content: object, status: int
) -> None:
    """Invalid settings, and those too long for the account's document; nothing is changed."""
    ident = (await site.daemon.call("accounts.add", name="shop"))["id"]
    path = f"{API}/auto-reply-settings/{ident}"
    before = await get(site, path)
    refused = await post(site, path, content)
    assert refused.status == status
    assert isinstance(refused.document["message"], str)
    assert await get(site, path) == before
    unknown = await post(site, f"{API}/auto-reply-settings/nobody", {"enabled": True})
    assert (unknown.status, unknown.document["error"]) == (404, "account_not_found")


# --- observers, and unused routes ----------------------------------------------------------------------


async def test_metrics_json(site: System) -> None:
    """GET /metrics-json: the outbox in numbers, with the header of the reference's observers."""
    port, ident = site.daemon.port, (await site.pair())["id"]
    await site.daemon.call("messages.send", account=ident, to=BOB, text="now", wait=30)
    site.account.ack_error = 463
    await site.daemon.call("messages.send", account=ident, to=BOB, text="no", wait=30)
    await site.daemon.call("accounts.stop", account=ident)
    await site.daemon.call("messages.send", account=ident, to=BOB, text="later")
    numbers = (await ask(port, "/metrics-json", headers={"X-Internal-Token": ADMIN})).document
    assert numbers.pop("outboxLagSeconds") >= 0
    assert numbers.pop("timestamp").endswith("Z")
    assert numbers == {
        "success": True, "activeAccounts": 0, "queuedCount": 1, "processingCount": 0,
        "sentLast5m": 1, "failedLast5m": 1, "reconnectCount": 0,
    }  # fmt: skip
    assert (await ask(port, "/metrics-json", headers={"X-Internal-Token": "x"})).status == 401
    elsewhere = await ask(port, f"{API}/accounts", headers={"X-Internal-Token": ADMIN})
    assert elsewhere.status == 401


async def test_health_detailed(site: System) -> None:
    """GET /health/detailed: each account's connection, without its number."""
    await site.pair()
    await site.receive("one")
    document = (await ask(site.daemon.port, "/health/detailed")).document
    assert (document["status"], document["waMode"], document["instanceId"]) == (
        "healthy", "active", "test",
    )  # fmt: skip
    check_reply("GET", "/health/detailed", document)
    assert document["sessions_dir_writable"] is True
    assert document["monitoring"] == {"staleThresholdMs": 300_000, "staleAccounts": 0}
    assert document["uptime"] > 0
    (row,) = document["accounts"]
    assert row.pop("lastEventAt").endswith("Z")
    assert row.pop("leaseUntil") > document["timestamp"]
    assert row.pop("timeSinceLastEvent") >= 0
    assert row == {
        "accountId": "acc-1555****01", "status": "connected", "hasDiskSession": True, "needs_qr": False,
        "reconnectCount": 0, "isStale": False,
    }  # fmt: skip


async def test_media_and_pictures(site: System) -> None:
    """GET /api/media-url and profile-photo/:id: wad has neither, and reports that; an invalid request is 400 or 404."""
    ident = (await site.daemon.call("accounts.add", name="shop"))["id"]
    for path, status, code in (
        ("/api/media-url?storagePath=whatsapp_media/a/b/c.jpg", 501, "not_supported"),
        ("/api/media-url?storagePath=other/c.jpg", 400, "invalid_request"),
        ("/api/media-url", 400, "invalid_request"),
        (f"{API}/profile-photo/{ident}?clientJid={BOB}", 501, "not_supported"),
        (f"{API}/profile-photo/{ident}", 400, "invalid_request"),
        (f"{API}/profile-photo/nobody?clientJid={BOB}", 404, "account_not_found"),
    ):
        refused = await ask(site.daemon.port, path, token=ADMIN)
        assert (refused.status, refused.document["error"]) == (status, code)
        assert isinstance(refused.document["message"], str)


@pytest.mark.parametrize("path", PROBES)
async def test_a_probe_has_exactly_the_declared_fields(site: System, path: str) -> None:
    """With an account and a message in it."""
    await site.pair()
    await site.receive("one")
    check_reply("GET", path, (await ask(site.daemon.port, path)).document)


async def test_an_employee_sees_the_status_without_codes(site: System) -> None:
    """As the list of accounts: the rights of the two are the same."""
    added = await site.daemon.call("accounts.add", name="shop")
    await site.daemon.qr(added["id"])
    employee = "wad_employee_of_the_tests"
    site.daemon.environ["WAD_HTTP_TOKENS"] += f" {named('staff', Role.EMPLOYEE, employee)}"
    await site.daemon.end()
    await site.daemon.start()
    await site.daemon.qr(added["id"])
    port = site.daemon.port
    for token, sees in ((employee, False), (ADMIN, True)):
        shown = await ask(port, "/api/operations/status", "POST", content={}, token=token)
        assert shown.status == 200
        assert (shown.document["accounts"][0]["qr"] is not None) is sees
        version = await ask(port, "/api/operations/version", "POST", content={}, token=token)
        assert version.status == 200
    assert (await ask(port, "/api/operations/status", "POST", content={})).status == 401


async def test_counters_do_not_fall_when_an_account_is_removed(site: System) -> None:
    """Prometheus reads a counter that falls as a restart; the metrics of the account itself end."""
    ident = (await site.pair())["id"]
    await site.receive("one", "two")
    await site.daemon.call("messages.send", account=ident, to=BOB, text="now", wait=30)
    before = await totals(site)
    assert before["wad_messages_recorded_total"] >= 2
    assert before["wad_messages_sent_total"] == 1
    await site.daemon.call("accounts.remove", account=ident)
    after = await totals(site)
    assert all(after[name] >= value for name, value in before.items())
    metrics = await ask(site.daemon.port, "/metrics", token=ADMIN)
    assert ident.encode() not in metrics.body


async def totals(site: System) -> dict[str, float]:
    """The counters without labels."""
    text = (await ask(site.daemon.port, "/metrics")).body.decode()
    rows = (line.split(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in rows if name.endswith("_total")}


# --- all of them ----------------------------------------------------------------------------------


async def test_no_get_writes_anything(site: System) -> None:
    """Every GET, twice: the store holds afterwards what it held before, unread counts included."""
    ident = (await site.pair())["id"]
    await site.receive("one", "two")
    before = contents(site.daemon.state / "wad.db")
    paths = [
        f"{API}/accounts",
        f"{API}/accounts/{ident}/health",
        f"{API}/threads/{ident}",
        f"{API}/messages/{ident}/{ident}__{BOB}",
        f"{API}/messages?accountId={ident}",
        f"{API}/inbox/{ident}",
        f"{API}/auto-reply-settings/{ident}",
        f"{API}/qr/{ident}",
        "/metrics-json",
        "/health/detailed",
        "/health",
        "/ready",
        "/readyz",
        "/diag",
        "/api/status/dashboard",
        "/metrics",
    ]
    for path in paths * 2:
        assert (await ask(site.daemon.port, path, token=ADMIN)).status == 200
    assert await asyncio.to_thread(contents, site.daemon.state / "wad.db") == before


def contents(file: Path) -> str:
    """All rows of a database, as one hash."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
        lines = "\n".join(db.iterdump())
    db.close()
    return hashlib.sha256(lines.encode()).hexdigest()


async def test_a_whole_piece_of_a_session_is_taken(site: System) -> None:
    """In base64, as JSON has it; one byte more is refused by name."""
    path = "/api/operations/sessions.put"
    piece = {"size": 3 << 20, "data": base64.b64encode(os.urandom(SESSION_PIECE)).decode()}
    first = await post(site, path, piece)
    assert first.status == 200, first.document
    more = {**piece, "offset": SESSION_PIECE, "upload": first.document["upload"]}
    assert (await post(site, path, more)).status == 200
    larger = {**more, "data": base64.b64encode(bytes(SESSION_PIECE + 1)).decode()}
    refused = await post(site, path, larger)
    assert (refused.status, refused.document["success"]) == (400, False)


async def test_a_large_body_is_not_read_from_a_stranger(site: System) -> None:
    """The answer comes although nothing of the body was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.daemon.port)
    head = (
        f"POST /api/operations/sessions.put HTTP/1.1\r\nHost: wad\r\nContent-Length: {1 << 20}\r\n"
    )
    writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode())
    async with asyncio.timeout(20):
        assert (await reader.readline()).split()[1] == b"401"
    writer.close()
