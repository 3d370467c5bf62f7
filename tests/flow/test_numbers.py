"""WhatsApp is asked for a number once, within bounds, and a question without an answer holds up nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.core.errors import EngineFailure, NotOnWhatsApp
from wad.core.jid import Jid
from wad.core.outbox import Entry, entry_id
from wad.core.outgoing import Text
from wad.engine.port import FoundNumber
from wad.engine.simulator import SimulatedWorker
from wad.flow.accounts.account import Account
from wad.flow.outbound import numbers
from wad.flow.outbound.numbers import Numbers

ASKED, THEIRS = Jid.of_phone("5511987654321"), Jid.of_phone("551187654321")
LID = Jid.parse("777@lid")
BOB = Jid.of_phone("15550000012")


def an_entry(account: Account, to: Jid) -> Entry:
    """An entry that another program has queued."""
    key = f"key {to}"
    return Entry(
        id=entry_id(account.id, key),
        account=account.id,
        thread=f"{account.id}__{to}",
        to=str(to),
        content=Text("hello"),
        client_id=key,
        secret=b"",
        created_ms=account.clock.wall_ms(),
    )


class Hanging:
    """Replaces the worker's question: it is not answered before `release`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release = asyncio.Event()
        self.asked: list[str] = []
        monkeypatch.setattr(SimulatedWorker, "find_number", self.find_number)

    async def find_number(self, phone: str) -> FoundNumber | None:
        """Wait, then name the person."""
        self.asked.append(phone)
        await self.release.wait()
        return FoundNumber(LID, THEIRS)


def fresh(world: World) -> Numbers:
    """Numbers of which nothing is remembered."""
    return Numbers(world.store, world.clock, world.loops)


async def test_the_answer_is_recorded(tmp_path: Path) -> None:
    """Then the number is known without a question, also to the next plan of an event."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).numbers[ASKED.user] = FoundNumber(LID, THEIRS)
        assert await fresh(world).to_queue(account, ASKED) == THEIRS
        assert await fresh(world).to_queue(account, ASKED) == THEIRS
        assert await fresh(world).to_queue(account, THEIRS) == THEIRS
        assert world.worker(account).asked_numbers == [ASKED.user]
        world.worker(account).receive(LID, "hi")
        await until(lambda: account.inbound.recorded, "the message")
        (thread,) = await world.store.threads(account.id, limit=9)
        assert thread.chat == str(THEIRS)


async def test_a_number_that_is_not_there_is_asked_for_once(tmp_path: Path) -> None:
    """For an hour; the reply says how long ago that was."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).numbers[BOB.user] = None
        for _ in range(3):
            with pytest.raises(NotOnWhatsApp, match=r"\+15550000012 is not on WhatsApp") as raised:
                await world.outbound.enqueue(account.id, BOB, Text("hello"))
            assert "just now" in raised.value.hint
        assert world.worker(account).asked_numbers == [BOB.user]
        assert await world.store.entries(account.id) == []


async def test_callers_cause_a_limited_number_of_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are asked for when their messages are sent."""
    monkeypatch.setattr(numbers, "_BURST", 2.0)
    monkeypatch.setattr(numbers, "_PER_SECOND", 0.0)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        asking = fresh(world)
        for number in range(5):
            to = Jid.of_phone(f"1555000030{number}")
            assert await asking.to_queue(account, to) == to
        assert len(world.worker(account).asked_numbers) == 2
        assert await asking.to_send(account, Jid.of_phone("15550000304"))
        assert len(world.worker(account).asked_numbers) == 3


async def test_one_question_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who ask for the same number share it."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        hanging, asking = Hanging(monkeypatch), fresh(world)
        tasks = [asyncio.create_task(asking.to_queue(account, to)) for to in (ASKED, ASKED, BOB)]
        await until(lambda: hanging.asked, "the question")
        hanging.release.set()
        assert (await asyncio.gather(*tasks))[:2] == [THEIRS, THEIRS]
        assert hanging.asked == [ASKED.user, BOB.user]


async def test_a_question_that_hangs_holds_up_its_chat_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other chats are sent meanwhile; with the answer the message is sent to the right number."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        hanging = Hanging(monkeypatch)
        stranger = an_entry(account, ASKED)
        await world.store.enqueue(stranger)
        world.outbound.wake(account.id)
        await until(lambda: hanging.asked, "the question")
        world.worker(account).receive(BOB, "hi")
        await until(lambda: account.inbound.recorded, "Bob's message")
        sent = (await world.outbound.enqueue(account.id, BOB, Text("hello"))).entry
        assert (await world.outbound.settled(sent.id, TIMEOUT)).wa_id
        waiting = await world.store.entry(stranger.id)
        assert waiting is not None
        assert (waiting.state, waiting.attempts) == ("queued", 0)
        hanging.release.set()
        entry = await world.outbound.settled(stranger.id, TIMEOUT)
        assert (entry.to, entry.asked, bool(entry.wa_id)) == (str(THEIRS), str(ASKED), True)
        assert [to for to, _, _ in world.worker(account).sent] == [BOB, THEIRS]


async def test_without_an_answer_in_time_it_is_sent_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else is asked for a while; a late answer is recorded, and joins the threads."""
    monkeypatch.setattr(numbers, "QUEUE_TIMEOUT", 0.05)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        hanging = Hanging(monkeypatch)
        for to in (ASKED, BOB):
            entry = (await world.outbound.enqueue(account.id, to, Text("hello"))).entry
            assert (await world.outbound.settled(entry.id, TIMEOUT)).to == str(to)
        assert hanging.asked == [ASKED.user]
        hanging.release.set()
        async with asyncio.timeout(TIMEOUT):
            while await world.store.thread(f"{account.id}__{THEIRS}") is None:
                await asyncio.sleep(0.01)
        found = await world.store.threads(account.id, limit=9)
        assert {thread.chat for thread in found} == {str(THEIRS), str(BOB)}


@pytest.mark.parametrize("error", [EngineFailure("rate-overlimit"), RuntimeError("a bug")])
async def test_after_an_error_nothing_is_asked_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Messages are sent to the numbers as given."""
    asked: list[str] = []

    async def fail(worker: SimulatedWorker, phone: str) -> FoundNumber | None:
        asked.append(phone)
        raise error

    monkeypatch.setattr(SimulatedWorker, "find_number", fail)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for to in (ASKED, BOB, ASKED):
            entry = (await world.outbound.enqueue(account.id, to, Text("hello"))).entry
            assert (await world.outbound.settled(entry.id, TIMEOUT)).wa_id
        assert asked == [ASKED.user]


async def test_the_librarys_own_answer_joins_the_threads(tmp_path: Path) -> None:
    """Sent as given, a message names the LID of its recipient."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).receive(LID, "hi")
        await until(lambda: account.inbound.recorded, "the message")
        await world.store.enqueue(an_entry(account, ASKED))
        await fresh(world).note_sent(account, ASKED, str(LID))
        (thread,) = await world.store.threads(account.id, limit=9)
        assert (thread.chat, thread.messages) == (str(ASKED), 2)
