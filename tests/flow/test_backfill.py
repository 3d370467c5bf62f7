"""History backfill, with the simulator: one run at a time, thread by thread, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.core.content import Content, MessageKind
from wad.core.errors import NotConnected, NotSupported, WadError
from wad.core.event import MessageReceived
from wad.core.history import KnownMessage
from wad.core.jid import Jid
from wad.flow.accounts.account import Account
from wad.flow.inbound.backfill import BackfillOptions, Backfills, Pace, Run

ANN, BOB = (Jid.parse(f"1555000001{n}@s.whatsapp.net") for n in (1, 2))
STATUS = Jid.parse("status@broadcast")
QUICK = Pace(answer=0.05, apart=0.0)


def old_messages(chat: Jid, *at_ms: int) -> list[MessageReceived]:
    """Messages that the phone has."""
    return [
        MessageReceived(f"OLD{chat.user}{at}", chat, chat, at, Content(MessageKind.TEXT, "old"))
        for at in at_ms
    ]


async def received(world: World, account: Account, *senders: Jid) -> None:
    """Each contact writes once."""
    for number, sender in enumerate(senders, 1):
        world.worker(account).receive(sender, "new", at_ms=1_000_000 + number)
    await until(lambda: account.inbound.recorded == len(senders), "messages")


async def finished(run: Run) -> Run:
    """The same run at its end."""
    async for _ in run.follow():
        pass
    return run


async def test_every_conversation_is_requested_once(tmp_path: Path) -> None:
    """The newest first; statuses have no history."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await received(world, account, ANN, BOB, STATUS)
        worker = world.worker(account)
        worker.history = [*old_messages(ANN, 1000, 2000), *old_messages(BOB, 3000)]
        run = await finished(world.backfills.begin(account, BackfillOptions()))
        assert [one.chat for one in worker.asked] == [BOB, ANN]
        assert (run.total, run.done.threads, run.done.messages, run.done.errors) == (2, 2, 3, 0)
        assert account.card.backfill == run.done
        assert account.account_dir.card().backfill == run.done


async def test_no_more_than_requested(tmp_path: Path) -> None:
    """For the given number of conversations the given number of messages, the newest of the old ones."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await received(world, account, ANN, BOB)
        world.worker(account).history = [
            *old_messages(ANN, 1000),
            *old_messages(BOB, 1000, 2000, 3000),
        ]
        run = await finished(world.backfills.begin(account, BackfillOptions(threads=1, messages=2)))
        assert (run.done.threads, run.done.messages) == (1, 2)
        assert {m.at_ms for m in await world.store.messages(f"{account.id}__{BOB}", limit=9)} == {
            2000, 3000, 1_000_002,
        }  # fmt: skip


async def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A request meanwhile gets the current run, and a later one starts another."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await received(world, account, ANN)
        first = world.backfills.begin(account, BackfillOptions())
        assert world.backfills.begin(account, BackfillOptions(threads=3)) is first
        await finished(first)
        await until(lambda: world.backfills.running(account) is None, "its end")
        assert world.backfills.begin(account, BackfillOptions()) is not first


async def test_a_phone_that_is_silent_ends_the_run(tmp_path: Path) -> None:
    """After two conversations without an answer; the result is recorded."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await received(world, account, ANN, BOB, Jid.parse("15550000013@s.whatsapp.net"))
        world.worker(account).answers = False
        backfills = Backfills(world.store, world.bus, QUICK)
        run = await finished(backfills.begin(account, BackfillOptions()))
        assert run.failure is not None
        assert "does not answer" in str(run.failure)
        assert (run.done.threads, run.done.errors) == (2, 3)
        assert account.card.backfill == run.done


async def test_the_answer_to_an_earlier_request_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late answer is stored, and counted for no other conversation."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await received(world, account, ANN, BOB)
        worker = world.worker(account)
        worker.history = [*old_messages(ANN, 1000), *old_messages(BOB, 1000, 2000)]
        answer, late = worker.ask_history, list[KnownMessage]()

        async def ask(oldest: KnownMessage, count: int) -> None:
            if not late:
                late.append(oldest)
                return
            run._pace = Pace(answer=TIMEOUT, apart=0.0)
            await answer(late[0], count)
            await answer(oldest, count)

        monkeypatch.setattr(worker, "ask_history", ask)
        run = Backfills(world.store, world.bus, QUICK).begin(account, BackfillOptions())
        await finished(run)
        assert [(one.messages, bool(one.error)) for one in run.done.results] == [
            (0, True),
            (1, False),
        ]
        assert len(await world.store.messages(f"{account.id}__{BOB}", limit=9)) == 3


async def test_an_account_that_is_not_connected_sends_no_requests(tmp_path: Path) -> None:
    """An account whose library cannot send requests gets an error, before anything begins."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).phone_requests_unsupported = "another build"
        assert await refused(world, account) == NotSupported.code
        await account.stop()
        assert await refused(world, account) == NotConnected.code
        assert account.card.backfill is None


async def refused(world: World, account: Account) -> str:
    """Why no run starts."""
    try:
        world.backfills.begin(account, BackfillOptions())
    except WadError as error:
        return error.code
    raise AssertionError("it began")


async def test_a_connection_that_is_lost_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the messages received until then."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await received(world, account, ANN, BOB)
        worker = world.worker(account)
        worker.history = old_messages(BOB, 1000)
        answer = worker.ask_history

        async def ask(oldest: KnownMessage, count: int) -> None:
            await answer(oldest, count)
            await account.stop()

        monkeypatch.setattr(worker, "ask_history", ask)
        run = await finished(world.backfills.begin(account, BackfillOptions()))
        assert isinstance(run.failure, NotConnected)
        assert (run.done.threads, run.done.messages, run.done.errors) == (1, 1, 1)


async def test_the_end_of_the_term_ends_the_run(tmp_path: Path) -> None:
    """No more requests are sent, and the next run is possible."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
            await received(world, account, ANN)
            world.worker(account).answers = False
            run = world.backfills.begin(account, BackfillOptions())
            await until(lambda: world.worker(account).asked, "the question")
        assert run.over
        assert world.backfills.running(account) is None
        assert account.card.backfill is not None
        assert "another instance" in account.card.backfill.error


async def test_a_run_that_had_not_started_ends_with_the_term(tmp_path: Path) -> None:
    """Its followers are notified of the end, and the next run is another one."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        backfills = Backfills(world.store, world.bus, QUICK)
        async with backfills.lead():
            run = backfills.begin(account, BackfillOptions())
        assert run.over
        assert backfills.running(account) is None


async def test_placeholders_are_requested_again(tmp_path: Path) -> None:
    """The phone's messages replace them."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        worker = world.worker(account)
        assert await world.backfills.ask_again(account) == []
        unread = Content(MessageKind.UNDECRYPTABLE, detail="why")
        worker._append(MessageReceived("A", BOB, BOB, 1000, unread), "A", 1000)
        await until(lambda: account.inbound.recorded == 1, "the placeholder")
        worker.history = [MessageReceived("A", BOB, BOB, 1000, Content(MessageKind.TEXT, "hi"))]
        (asked,) = await world.backfills.ask_again(account)
        assert (asked.chat, asked.wa_id) == (BOB, "A")
        await until(lambda: account.inbound.recorded == 2, "the message")
        (message,) = await world.store.messages(f"{account.id}__{BOB}", limit=9)
        assert message.content.text == "hi"
