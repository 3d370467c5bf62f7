"""Phone numbers as WhatsApp knows them: other spellings, missing numbers, numbers that change their owner."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.rest import API, a_site, post
from tests.system.systems import System, a_system
from tests.whatsapp.people import Addressing, Person
from tests.whatsapp.queries import NumberAnswer
from wad.core.errors import NotOnWhatsApp

pytestmark = pytest.mark.timeout(180)

ASKED, THEIRS = "+5511987654321", "551187654321"
"""A Brazilian number as people write it, and as WhatsApp knows it."""


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """The account paired, and Ana in Brazil, whose number people write with another digit."""
    async with a_system(tmp_path) as system:
        await system.pair()
        yield system


def ana(system: System, asked: str = ASKED, theirs: str = THEIRS) -> Person:
    """A person whose number is written in two ways."""
    person = system.server.add_peer(theirs, name="Ana")
    system.server.add_spelling(asked, person)
    return person


async def send(system: System, to: str, text: str, **params: Any) -> dict[str, Any]:
    """A text from the account; the entry as it is after it has left."""
    reply = await system.daemon.call(
        "messages.send", **{"account": "shop", "to": to, "text": text, "wait": 30, **params}
    )
    entry: dict[str, Any] = reply["message"]
    return entry


async def threads(system: System) -> dict[str, list[str]]:
    """The texts of each chat, oldest first."""
    found = (await system.daemon.call("threads.list", account="shop"))["threads"]
    return {
        thread["chat"]: [m["text"] for m in await messages(system, thread["chat"])]
        for thread in found
    }


async def messages(system: System, chat: str) -> list[dict[str, Any]]:
    """A chat's messages, oldest first."""
    page = await system.daemon.call("messages.list", account="shop", chat=chat)
    return list(reversed(page["messages"]))


async def wait_threads(system: System, expected: dict[str, list[str]]) -> None:
    """Wait until the threads are these."""
    found: dict[str, list[str]] = {}
    try:
        async with asyncio.timeout(30):
            while (found := await threads(system)) != expected:
                await asyncio.sleep(0.05)
    except TimeoutError:
        assert found == expected


async def wait_state(system: System, ident: str, *states: str) -> dict[str, Any]:
    """Wait until an entry is in one of these states."""
    async with asyncio.timeout(30):
        while True:
            page = await system.daemon.call("outbox.list", account="shop")
            entry: dict[str, Any] = next(e for e in page["entries"] if e["id"] == ident)
            if entry["state"] in states:
                return entry
            await asyncio.sleep(0.05)


# --- other spellings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "theirs"),
    [(ASKED, THEIRS), ("+525512345678", "5215512345678"), ("+541123456789", "5491123456789")],
)
async def test_an_answer_is_in_the_thread_of_what_was_sent(
    system: System, asked: str, theirs: str
) -> None:
    """Brazil, Mexico, Argentina: WhatsApp is asked once, and its spelling is used from then on."""
    person = ana(system, asked, theirs)
    entry = await send(system, asked, "one")
    assert (entry["state"], entry["to"]) in [
        (state, str(person.pn)) for state in ("sent", "delivered")
    ]
    await system.stored([await person.send_text(system.account, "two")])
    await send(system, asked, "three")
    await send(system, theirs, "four")
    assert await threads(system) == {str(person.pn): ["one", "two", "three", "four"]}
    assert [one.text for one in person.inbox] == ["one", "three", "four"]
    assert system.server.asked_numbers == [asked[1:]]
    found = await messages(system, asked)
    assert [m["text"] for m in found] == ["one", "two", "three", "four"]


@pytest.mark.parametrize("answer", [NumberAnswer.LID, NumberAnswer.PN])
async def test_the_answer_may_be_a_hidden_id_or_a_number(
    system: System, answer: NumberAnswer
) -> None:
    """Older servers named the number; where only the hidden id is named, an answer brings the number."""
    system.server.number_answer = answer
    person = ana(system)
    await send(system, ASKED, "one")
    await system.stored([await person.send_text(system.account, "two")])
    await send(system, ASKED, "three")
    await wait_threads(system, {str(person.pn): ["one", "two", "three"]})


async def test_the_spelling_survives_a_restart(system: System) -> None:
    """The answer is stored."""
    person = ana(system)
    await send(system, ASKED, "one")
    await system.daemon.end(signal.SIGKILL)
    await system.daemon.start()
    await system.daemon.wait_state("shop", "connected")
    await send(system, ASKED, "two")
    assert await threads(system) == {str(person.pn): ["one", "two"]}
    assert system.server.asked_numbers == [ASKED[1:]]


async def test_known_contacts_are_not_asked_for(system: System) -> None:
    """Who has written before is known; WhatsApp limits such questions."""
    await system.receive("hello")
    await send(system, f"+{system.bob.pn.user}", "hi")
    await send(system, str(system.bob.lid), "hi again")
    assert system.server.asked_numbers == []
    assert await threads(system) == {str(system.bob.pn): ["hello", "hi", "hi again"]}


async def test_one_client_id_is_one_message_in_either_spelling(system: System) -> None:
    """The caller repeats its request with the number that it knows, or the one from the reply."""
    person = ana(system)
    first = await send(system, ASKED, "one", client_id="k1")
    for to in (ASKED, str(person.pn), str(person.lid)):
        assert (await send(system, to, "one", client_id="k1"))["id"] == first["id"]
    assert [one.text for one in person.inbox] == ["one"]


async def test_what_was_queued_while_away_is_sent_to_the_right_number(system: System) -> None:
    """The number is asked for before the first of them is sent; their order stays, and others do not wait."""
    person = ana(system)
    await system.daemon.call("accounts.stop", account="shop")
    queued = [await send(system, ASKED, f"text {n}", wait=0) for n in range(3)]
    queued.append(await send(system, f"+{system.bob.pn.user}", "hi", wait=0))
    await system.daemon.call("accounts.start", account="shop")
    for entry in queued:
        await wait_state(system, entry["id"], "delivered")
    assert [one.text for one in person.inbox] == ["text 0", "text 1", "text 2"]
    assert system.server.asked_numbers.count(ASKED[1:]) == 1
    expected = {
        str(person.pn): ["text 0", "text 1", "text 2"],
        str(system.bob.pn): ["hi"],
    }
    await wait_threads(system, expected)


# --- without an answer --------------------------------------------------------------------------------


async def test_a_question_that_is_not_answered_stops_nothing(system: System) -> None:
    """The message is sent as the number was given; the thread is one as soon as the person is known."""
    person = ana(system)
    system.account.answers_numbers = False
    entry = await send(system, ASKED, "one")
    assert entry["state"] in ("sent", "delivered")
    await send(system, f"+{system.bob.pn.user}", "hi")  # nothing is asked meanwhile
    assert system.server.asked_numbers == []
    await system.stored([await person.send_text(system.account, "two")])
    await wait_threads(system, {str(person.pn): ["one", "two"], str(system.bob.pn): ["hi"]})


async def test_whatsapp_limits_the_questions(system: System) -> None:
    """After an error nothing is asked for a while, and messages are sent."""
    system.account.number_error = 429
    for number in range(3):
        system.server.add_peer(f"1555000003{number}", name=f"Peer {number}")
        entry = await send(system, f"+1555000003{number}", "hi")
        assert entry["state"] in ("sent", "delivered")
    assert "rate-overlimit" in system.daemon.log.read_text()


async def test_a_restart_between_the_question_and_the_send(system: System) -> None:
    """Killed while WhatsApp is asked: the message is queued as it was, and is sent once, to the right number."""
    person = ana(system)
    await system.daemon.call("accounts.stop", account="shop")
    entry = await send(system, ASKED, "one", wait=0)
    system.account.answers_numbers = False
    logins = system.account.logins
    await system.daemon.call("accounts.start", account="shop")
    await system.server.news.until(lambda: system.account.logins > logins, 30, "a login")
    await system.daemon.end(signal.SIGKILL)
    system.account.answers_numbers = True
    await system.daemon.start()
    entry = await wait_state(system, entry["id"], "delivered")
    assert (entry["to"], entry["attempts"]) == (str(person.pn), 1)
    assert [one.text for one in person.inbox] == ["one"]


# --- numbers that are not there -----------------------------------------------------------------------


async def test_a_number_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    """Nothing is queued; the reply says why; another try does not ask again."""
    async with a_site(tmp_path) as system:
        await system.pair()
        for _ in range(2):
            done = await system.daemon.wadctl("send", "shop", "+15559999999", "hello")
            assert done.returncode == NotOnWhatsApp.exit_code, done
            assert "+15559999999 is not on WhatsApp" in done.stderr
        ident = (await system.daemon.account("shop"))["id"]
        wanted = {"accountId": ident, "to": "+15559999999", "message": "hello"}
        refused = await post(system, f"{API}/send-message", wanted)
        assert (refused.status, refused.document["error"]) == (422, NotOnWhatsApp.code)
        assert (await system.daemon.call("outbox.list", account="shop"))["entries"] == []
        assert system.server.asked_numbers == ["15559999999"]


async def test_what_was_queued_for_a_number_that_is_not_there_fails(system: System) -> None:
    """While away it cannot be asked for; then the message fails with that reason, and others are sent."""
    await system.daemon.call("accounts.stop", account="shop")
    entries = [await send(system, "+15559999999", f"text {n}", wait=0) for n in range(2)]
    other = await send(system, f"+{system.bob.pn.user}", "hi", wait=0)
    await system.daemon.call("accounts.start", account="shop")
    for entry in entries:
        failed = await wait_state(system, entry["id"], "failed")
        assert failed["error_code"] == NotOnWhatsApp.code
        assert "is not on WhatsApp" in failed["error"]
    await wait_state(system, other["id"], "sent", "delivered")
    assert system.server.asked_numbers.count("15559999999") == 1


# --- another number, another owner --------------------------------------------------------------------


async def test_a_contact_changes_the_number(system: System) -> None:
    """The conversation goes on in one thread, and an edit of before is applied; the next owner is somebody else."""
    bob = system.bob
    old = bob.pn
    first, *_ = await system.receive("from the old number")
    system.server.change_number(bob, "15550000077")
    await system.stored([await bob.send_text(system.account, "from the new number")])
    await bob.edit(system.account, first, "edited afterwards")
    await wait_threads(system, {str(bob.pn): ["edited afterwards", "from the new number"]})
    assert [m["text"] for m in await messages(system, str(old))] == [
        "edited afterwards",
        "from the new number",
    ]
    eve = system.server.add_peer(old.user, name="Eve", lid="900099990000066")
    await system.stored([await eve.send_text(system.account, "I am Eve")])
    bobs = {str(bob.pn): ["edited afterwards", "from the new number"]}
    assert await threads(system) == bobs | {str(old): ["I am Eve"]}
    assert (await send(system, str(bob.lid), "to Bob"))["thread"].endswith(str(bob.pn))
    await send(system, f"+{old.user}", "to Eve")
    assert [one.text for one in bob.inbox] == ["to Bob"]
    assert [one.text for one in eve.inbox] == ["to Eve"]
    bob.addressing = Addressing.LID
    await system.stored([await bob.send_text(system.account, "by hidden id")])
    expected = {
        str(bob.pn): ["edited afterwards", "from the new number", "to Bob", "by hidden id"],
        str(old): ["I am Eve", "to Eve"],
    }
    assert await threads(system) == expected


async def test_the_next_owner_writes_first(system: System) -> None:
    """Who had the number before keeps the messages, under the hidden id until another number is known."""
    bob, group = system.bob, system.server.add_group("Club", system.bob, system.account)
    old = bob.pn
    await system.receive("from Bob")
    await system.stored([await bob.send_text(group, "Bob in the group")])
    system.server.change_number(bob, "15550000077")
    eve = system.server.add_peer(old.user, name="Eve", lid="900099990000066")
    await system.stored([await eve.send_text(system.account, "I am Eve")])
    chat = str(group.jid)
    assert await threads(system) == {
        str(bob.lid): ["from Bob"],
        str(old): ["I am Eve"],
        chat: ["Bob in the group"],
    }
    assert [m["sender"] for m in await messages(system, chat)] == [str(bob.lid)]
    await system.stored([await bob.send_text(system.account, "Bob again")])
    assert await threads(system) == {
        str(bob.pn): ["from Bob", "Bob again"],
        str(old): ["I am Eve"],
        chat: ["Bob in the group"],
    }
    assert [m["sender"] for m in await messages(system, chat)] == [str(bob.pn)]


async def test_the_old_number_is_asked_for_again(system: System) -> None:
    """It is nobody's any more: a message to it is refused, and not sent to its former owner."""
    bob, old = system.bob, system.bob.pn
    await system.receive("from the old number")
    system.server.change_number(bob, "15550000077")
    await system.stored([await bob.send_text(system.account, "from the new number")])
    done = await system.daemon.wadctl("send", "shop", f"+{old.user}", "hello")
    assert done.returncode == NotOnWhatsApp.exit_code, done
    assert not bob.inbox
