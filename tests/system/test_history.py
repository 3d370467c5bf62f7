"""History backfill: the real daemon, the real library, and a phone with old messages."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import builds
from tests.support.http_client import ask
from tests.system.rest import API, BOB, a_site, get, post
from tests.system.systems import System
from tests.whatsapp import contents
from tests.whatsapp.history import Conversation, Line
from tests.whatsapp.people import Addressing, Person

pytestmark = pytest.mark.timeout(180)

LONG_AGO = 1_700_000_000  # seconds since 1970


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[System]:
    """Everything up, the account paired; conversations are asked for without a pause."""
    async with a_site(tmp_path, WAD_ENGINE_BACKFILL_PAUSE="0.01") as system:
        await linked(system)
        yield system


async def linked(system: System) -> None:
    """Pair the account, and let its phone send something: only then wad can send requests to it."""
    await system.pair()
    await system.account.phone.send_push_names(system.bob)
    await system.daemon.wait_account(
        "shop", lambda shown: shown["last_event_ms"], "an event of the phone"
    )


def old_messages_of(person: Person, count: int) -> Conversation:
    """This number of messages of a year ago, every other one our own."""
    lines = [
        Line(
            f"{person.name.upper()}{n:03}",
            LONG_AGO + 60 * n,
            contents.text(f"old {n}"),
            person if n % 2 else None,
        )
        for n in range(count)
    ]
    return Conversation(person, lines)


async def ident_of(system: System) -> str:
    """The id of the account."""
    return str((await system.daemon.account("shop"))["id"])


async def dashboard_row(system: System) -> Any:
    """The account in the public view."""
    (row,) = (await ask(system.daemon.port, "/api/status/dashboard")).document["accounts"]
    return row


async def ended(system: System) -> Any:
    """The account's card, once a backfill has ended."""
    card = system.daemon.state / "sessions" / ".cards" / f"{await ident_of(system)}.json"
    async with asyncio.timeout(60):
        while (done := json.loads(await asyncio.to_thread(card.read_text))["backfill"]) is None:
            await asyncio.sleep(0.02)
    return done


async def test_the_phone_is_asked_for_older_messages(site: System) -> None:
    """POST /api/whatsapp/backfill/:id: what the phone has of before is stored, in front of what was known."""
    await site.receive("new")
    site.account.phone.archive.keep(old_messages_of(site.bob, 7))
    ident = await ident_of(site)
    reply = await post(site, f"{API}/backfill/{ident}", {"whatever": "ignored"})
    assert reply.status == 200
    assert reply.document == {
        "success": True, "message": "Backfill started", "accountId": ident, "running": True,
    }  # fmt: skip
    done = await ended(site)
    assert (done["threads"], done["messages"], done["errors"]) == (1, 7, 0)
    assert done["results"] == [{"thread": f"{ident}__{BOB}", "messages": 7, "error": ""}]
    stored = await site.daemon.messages("shop")
    assert [m["text"] for m in stored] == [*(f"old {n}" for n in range(7)), "new"]
    assert [m["sender"] for m in stored[:3]] == ["", BOB, ""]
    (thread,) = (await get(site, f"{API}/threads/{ident}"))["threads"]
    assert thread["lastMessageText"] == "new"
    assert (await dashboard_row(site))["lastBackfillAt"] is not None


@pytest.mark.parametrize(
    "answered", [Addressing.LID_WITH_PN, Addressing.LID, Addressing.PN_WITH_LID]
)
async def test_the_answer_for_a_thread_under_a_hidden_id_is_counted(
    site: System, answered: Addressing
) -> None:
    """The phone may answer with the number, or with both addresses: then the thread moves to the number's."""
    site.bob.addressing = Addressing.LID
    await site.receive("new")
    site.bob.addressing = answered
    site.account.phone.archive.keep(old_messages_of(site.bob, 7))
    ident = await ident_of(site)
    await post(site, f"{API}/backfill/{ident}")
    done = await ended(site)
    assert (done["threads"], done["messages"], done["errors"]) == (1, 7, 0)
    (thread,) = (await site.daemon.call("threads.list"))["threads"]
    assert thread["chat"] == (str(site.bob.lid) if answered is Addressing.LID else BOB)
    assert thread["messages"] == 8
    assert done["results"] == [{"thread": thread["id"], "messages": 7, "error": ""}]


async def test_the_question_is_for_the_phone_alone(site: System) -> None:
    """It names the oldest message that is known, and is not sent to a contact and does not show in a conversation."""
    first, *_ = await site.receive("one", "two")
    site.account.phone.archive.keep(old_messages_of(site.bob, 1))
    await post(site, f"{API}/backfill/{await ident_of(site)}")
    await ended(site)
    (question,) = site.account.phone.archive.questions
    assert (question.chat, question.before, question.from_me, question.count) == (
        BOB,
        first,
        False,
        50,
    )
    assert question.at == (await site.daemon.messages("shop"))[1]["at_ms"] // 1000
    assert site.account.phone.copies == []
    assert not site.bob.inbox
    assert len((await site.daemon.call("threads.list"))["threads"]) == 1


async def test_messages_are_sent_as_usual_meanwhile(site: System) -> None:
    """Messages to others and to ourselves are sent to the recipient, not to the phone alone."""
    await site.receive("one")
    await post(site, f"{API}/backfill/{await ident_of(site)}")
    for to in (BOB, f"{site.account.pn.user}@s.whatsapp.net"):
        sent = await site.daemon.call("messages.send", account="shop", to=to, text="hi", wait=30)
        assert sent["message"]["state"] in ("sent", "delivered")
    await site.bob.received(site.account, text="hi")
    assert {copy.text for copy in site.account.phone.copies} == {"hi"}


async def test_the_library_still_asks_for_keys(site: System) -> None:
    """Whatsmeow's own requests to the phone still reach it: a request for an app-state key."""
    phone = site.account.phone
    phone.forget_to_share()
    await phone.share_app_state(push_name="Shop")
    async with asyncio.timeout(60):
        while 7 not in phone.archive.kinds:  # APP_STATE_SYNC_KEY_REQUEST
            await asyncio.sleep(0.02)
    assert phone.copies == []


async def test_another_run_requests_older_messages(site: System) -> None:
    """Each run begins at the oldest message that is stored by then, until there is nothing more."""
    await site.receive("new")
    site.account.phone.archive.keep(old_messages_of(site.bob, 5))
    runs = [
        await site.daemon.wadctl("account", "backfill", "shop", "--messages", "3", "--json")
        for _ in range(3)
    ]
    assert [run.returncode for run in runs] == [0, 0, 0]
    last = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    assert [(one["messages"], one["errors"], one["over"]) for one in last] == [
        (3, 0, True), (2, 0, True), (0, 0, True),
    ]  # fmt: skip
    assert len(await site.daemon.messages("shop")) == 6
    shown = await site.daemon.wadctl("account", "show", "shop")
    assert re.search(r"last backfill +\S+ \S+: 0 messages, 1 conversations\n", shown.stdout)


async def test_a_phone_that_does_not_answer(tmp_path: Path) -> None:
    """It is reported, and the next run is possible."""
    quick = {"WAD_ENGINE_BACKFILL_PAUSE": "0.01", "WAD_ENGINE_BACKFILL_TIMEOUT": "0.2"}
    async with a_site(tmp_path, **quick) as site:
        await linked(site)
        await site.receive("one")
        carol = site.server.add_peer("15550000013", name="Carol")
        await site.stored([await carol.send_text(site.account, "two")])
        site.account.phone.archive.silent = True
        run = await site.daemon.wadctl("account", "backfill", "shop")
        assert run.returncode == 8
        assert "the phone does not answer" in run.stderr
        done = await ended(site)
        assert (done["threads"], done["messages"], done["errors"]) == (2, 0, 3)
        again = await post(site, f"{API}/backfill/{await ident_of(site)}")
        assert again.document["message"] == "Backfill started"


async def test_a_disconnected_account_sends_no_requests(site: System) -> None:
    """409 with the reference's code for a stopped account, 404 for none, over HTTP and with wadctl."""
    ident = await ident_of(site)
    await site.daemon.call("accounts.stop", account=ident)
    for route in ("backfill", "repair-sync"):
        refused = await post(site, f"{API}/{route}/{ident}")
        assert (refused.status, refused.document["error"]) == (409, "invalid_state")
        assert refused.document["currentStatus"] == "disconnected"
        unknown = await post(site, f"{API}/{route}/nobody")
        assert (unknown.status, unknown.document["error"]) == (404, "account_not_found")
    run = await site.daemon.wadctl("account", "backfill", "shop", "--json")
    assert run.returncode == 5
    assert json.loads(run.stdout.splitlines()[-1])["error"]["code"] == "not_connected"


async def test_an_unknown_build_sends_no_requests(tmp_path: Path) -> None:
    """The account works; both routes and wadctl say that this cannot be done, and why."""
    (tmp_path / "build").mkdir()
    build = builds.another_build(tmp_path / "build")
    async with a_site(tmp_path / "wad") as site:
        await site.daemon.end()
        site.daemon.environ["PYTHONPATH"] = f"{build}:{site.daemon.environ['PYTHONPATH']}"
        await site.daemon.start()
        await site.pair()
        await site.receive("one")
        ident = await ident_of(site)
        for route in ("backfill", "repair-sync"):
            refused = await post(site, f"{API}/{route}/{ident}")
            assert (refused.status, refused.document["error"]) == (501, "not_supported")
            assert "is an unknown build" in refused.document["message"]
        run = await site.daemon.wadctl("account", "backfill", "shop")
        assert run.returncode == 9


async def test_a_restart_in_the_middle_frees_the_run(tmp_path: Path) -> None:
    """Killed while it waits for the phone, wad asks again after its start."""
    async with a_site(tmp_path) as site:
        await linked(site)
        await site.receive("new")
        phone, ident = site.account.phone, await ident_of(site)
        phone.archive.keep(old_messages_of(site.bob, 2))
        phone.archive.silent = True
        await post(site, f"{API}/backfill/{ident}")
        async with asyncio.timeout(30):
            while not phone.archive.questions:
                await asyncio.sleep(0.02)
        await site.daemon.end(signal.SIGKILL)
        phone.archive.silent = False
        await site.daemon.start()
        await site.daemon.wait_state("shop", "connected")
        reply = await post(site, f"{API}/backfill/{ident}")
        assert reply.document["message"] == "Backfill started"
        assert (await ended(site))["messages"] == 2


async def test_repair_asks_again_for_what_could_not_be_read(site: System) -> None:
    """POST /api/whatsapp/repair-sync/:id: the phone's copy replaces the placeholder."""
    ident = await site.bob.send_hidden(site.account)
    account = await ident_of(site)
    async with asyncio.timeout(30):
        while not any(m["wa_id"] == ident for m in await site.daemon.messages("shop")):
            await asyncio.sleep(0.02)
    line = Line(ident, site.server.now(), contents.text("unreadable"), site.bob)
    site.account.phone.archive.keep(Conversation(site.bob, [line]))
    reply = await post(site, f"{API}/repair-sync/{account}")
    assert reply.status == 200
    assert reply.document == {
        "success": True,
        "accountId": account,
        "result": {"account": account, "asked": 1, "recounted": 0},
    }
    async with asyncio.timeout(30):
        while [m["text"] for m in await site.daemon.messages("shop")] != ["unreadable"]:
            await asyncio.sleep(0.02)
