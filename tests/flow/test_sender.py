"""One account's sender: chats do not delay each other, and nothing stays in `sending`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.core.errors import BadInput, Fenced, StateUnwritable, TimedOut, Unavailable
from wad.core.jid import Jid
from wad.core.message import MessageStatus
from wad.core.outbox import Claim, Claimed, Entry, NotSent, Outcome, Refused, Sent, Unknown
from wad.core.outgoing import Attachment, AttachmentKind, Outgoing, Text
from wad.core.send_result import SendResult
from wad.engine.simulator import SimulatedWorker
from wad.flow.accounts.account import Account
from wad.flow.outbound import sender

BOB, ANN, EVE = (Jid.of_phone(f"+1555000000{number}") for number in (2, 3, 4))
PICTURE = Attachment(kind=AttachmentKind.IMAGE, sha256="0" * 64, size=1, mimetype="image/png")
OPEN = (MessageStatus.QUEUED, MessageStatus.SENDING)

Answer = Callable[[SimulatedWorker, Jid, Outgoing], Awaitable[SendResult | None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses."""
    monkeypatch.setattr(sender, "RETRY", 0.01)


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """The worker's result of each message; None: it is sent."""
    send = SimulatedWorker.send

    async def wrapped(
        self: SimulatedWorker, to: Jid, content: Outgoing, secret: bytes, asked_ms: int
    ) -> SendResult:
        result = await answer(self, to, content)
        return await send(self, to, content, secret, asked_ms) if result is None else result

    monkeypatch.setattr(SimulatedWorker, "send", wrapped)


async def queue(world: World, account: Account, to: Jid, content: Outgoing | str) -> Entry:
    """Queue one."""
    content = Text(content) if isinstance(content, str) else content
    return (await world.outbound.enqueue(account.id, to, content)).entry


async def queued_again(world: World, entry: Entry) -> None:
    """Wait until it is queued again."""
    async with asyncio.timeout(TIMEOUT):
        while (found := await world.store.entry(entry.id)) and found.state != "queued":
            await asyncio.sleep(0.01)


async def settled(world: World, entry: Entry) -> Entry:
    """Wait for its result."""
    return await world.outbound.settled(entry.id, timeout=TIMEOUT)


async def test_a_refused_chat_delays_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are sent meanwhile; its own order is kept."""
    refusing = True

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        return NotSent("unknown reason") if refusing and to == BOB else None

    monkeypatch.setattr(sender, "RETRY", 2.0)
    answer_with(monkeypatch, answer)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for number in range(3):
            last = await queue(world, account, BOB, f"bob {number}")
        for number in range(5):
            other = await queue(world, account, ANN, f"ann {number}")
        assert (await settled(world, other)).wa_id
        assert [c.text for to, c, _ in world.worker(account).sent if isinstance(c, Text)] == [
            f"ann {number}" for number in range(5)
        ]
        refusing = False
        assert (await settled(world, last)).wa_id
        to_bob = [c for to, c, _ in world.worker(account).sent if to == BOB]
        assert to_bob == [Text(f"bob {number}") for number in range(3)]


async def test_a_pause_that_ends_while_the_store_is_asked_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chat continues at once, not at the next regular check of the outbox."""
    refused = False

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        nonlocal refused
        first, refused = not refused, True
        return NotSent("unknown reason") if first else None

    monkeypatch.setattr(sender, "RETRY", 0.5)
    monkeypatch.setattr(sender, "CHECK_INTERVAL", 1000.0)
    answer_with(monkeypatch, answer)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        next_entry = world.store.next_entry

        async def slow(ident: str, *, but: Collection[str] = ()) -> Entry | None:
            found = await next_entry(ident, but=but)
            if but and not any(task.get_name().startswith("send ") for task in asyncio.all_tasks()):
                await asyncio.sleep(1.0)  # longer than the pause
            return found

        monkeypatch.setattr(world.store, "next_entry", slow)
        assert (await settled(world, await queue(world, account, BOB, "one"))).wa_id


async def test_an_upload_that_hangs_delays_only_its_chat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts, and another chat's file, go on; later messages of its chat wait, and more files wait for a lane."""
    gate, begun = asyncio.Event(), list[Jid]()

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        begun.append(to)
        if to == BOB:
            await gate.wait()
        return None

    answer_with(monkeypatch, answer)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        picture = await queue(world, account, BOB, PICTURE)
        await until(lambda: BOB in begun, "the upload")
        after = await queue(world, account, BOB, "after it")
        assert (await settled(world, await queue(world, account, ANN, PICTURE))).wa_id
        assert (await settled(world, await queue(world, account, EVE, "hello"))).wa_id
        found = await world.store.entry(after.id)
        assert found is not None
        assert found.state is MessageStatus.QUEUED
        gate.set()
        assert (await settled(world, after)).wa_id
        assert (await settled(world, picture)).wa_id


async def test_files_have_few_lanes_and_texts_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many uploads hang, in however many chats, a text is sent."""
    gate, uploading = asyncio.Event(), list[Jid]()

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        if isinstance(content, Attachment):
            uploading.append(to)
            await gate.wait()
        return None

    answer_with(monkeypatch, answer)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        persons = [Jid.of_phone(f"+155500001{number:02}") for number in range(20)]
        pictures = [await queue(world, account, person, PICTURE) for person in persons]
        assert (await settled(world, await queue(world, account, EVE, "hello"))).wa_id
        assert len(uploading) == sender.FILES
        gate.set()
        for entry in pictures:
            assert (await settled(world, entry)).wa_id
        assert uploading == persons


@pytest.mark.parametrize("kind", ["text", "file"])
async def test_a_message_that_kills_the_worker_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """At the second time; the others, which the engine had at the first, are sent, and so is what follows it."""
    poison = Text("poison") if kind == "text" else PICTURE

    uploading = asyncio.Event()

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        if to == BOB and content == poison:
            await uploading.wait()
            worker.crash("SIGSEGV")
        elif isinstance(content, Attachment) and not uploading.is_set():
            uploading.set()
            await worker.ended  # an upload that the death of another interrupts
        return NotSent("SIGSEGV", died=True) if worker.ended.done() else None

    answer_with(monkeypatch, answer)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        upload = await queue(world, account, ANN, PICTURE)
        entry = await queue(world, account, BOB, poison)
        after = await queue(world, account, BOB, "after it")
        found = await settled(world, entry)
        assert (found.state, found.error_code) == ("failed", "kills_the_worker")
        assert (await settled(world, upload)).wa_id
        assert (await settled(world, after)).wa_id
        assert account.restarts == 2


async def test_crashes_are_counted_across_restarts_without_the_daemons_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was being sent when the daemon ended is sent again, however often that happens."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        entry, ident = await queue(world, account, BOB, "one"), account.id
    for number in range(4):
        async with a_world(tmp_path, boot=f"boot{number}") as world, world.leading():
            await queued_again(world, entry)
            claim = Claimed(Claim("me", world.leader.epoch or 0), b"%d" % number)
            await world.store.settle(entry.id, claim, epoch=world.leader.epoch or 0)
            if number == 1:
                died = NotSent("SIGSEGV", died=True)
                await world.store.settle(entry.id, died, epoch=world.leader.epoch or 0)
                claim = Claimed(Claim("me", world.leader.epoch or 0), b"again")
                await world.store.settle(entry.id, claim, epoch=world.leader.epoch or 0)
        # The term ends; the next one finds the entry in `sending`.
    async with a_world(tmp_path, boot="last") as world, world.leading():
        account = world.accounts.find(ident)
        await account.start()
        found = await settled(world, entry)
        assert (bool(found.wa_id), found.deaths) == (True, 1)


@pytest.mark.parametrize(
    "error", [ValueError("a fault of ours"), StateUnwritable("full"), BadInput("no"), OSError("no")]
)
@pytest.mark.parametrize("result", [Sent("W1", 5), Refused("no", "never"), Unknown("W2", "?")])
async def test_an_outcome_is_written_whatever_the_store_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, result: SendResult
) -> None:
    """Nothing stays in `sending`, and another chat's messages are sent meanwhile."""
    failing = True

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        return result if to == BOB else None

    answer_with(monkeypatch, answer)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        settle = world.store.settle

        async def fail(ident: str, outcome: Outcome, *, epoch: int) -> Entry:
            if failing and outcome == result:
                raise error
            return await settle(ident, outcome, epoch=epoch)

        monkeypatch.setattr(world.store, "settle", fail)
        entry = await queue(world, account, BOB, "one")
        assert (await settled(world, await queue(world, account, ANN, "hello"))).wa_id
        await until(
            lambda: any(one.name == "outcome" for one in world.loops.failing), "it is shown"
        )
        failing = False
        assert (await settled(world, entry)).state not in OPEN


async def test_an_entry_that_cannot_be_claimed_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a reason; the others are sent before."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        settle = world.store.settle

        async def fail(ident: str, outcome: Outcome, *, epoch: int) -> Entry:
            if ident == entry.id and isinstance(outcome, Claimed):
                raise BadInput("the document is too large")
            return await settle(ident, outcome, epoch=epoch)

        await account.stop()
        entry = await queue(world, account, BOB, "one")
        monkeypatch.setattr(world.store, "settle", fail)
        await account.start()
        assert (await settled(world, await queue(world, account, ANN, "hello"))).wa_id
        found = await settled(world, entry)
        assert (found.state, found.error) == ("failed", "the document is too large")
        assert (await settled(world, await queue(world, account, BOB, "two"))).wa_id


async def test_known_outcomes_outlive_the_term(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent, and the lease was lost before that could be written: the next term writes it."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
            settle = world.store.settle

            async def fail(ident: str, outcome: Outcome, *, epoch: int) -> Entry:
                if isinstance(outcome, Sent):
                    raise Fenced("epoch 1 is over")
                return await settle(ident, outcome, epoch=epoch)

            monkeypatch.setattr(world.store, "settle", fail)
            entry = await queue(world, account, BOB, "one")
            await until(lambda: world.worker(account).sent, "the message")
            await until(lambda: not world.loops.failing, "quiet")
        monkeypatch.setattr(world.store, "settle", settle)
        async with world.leading():
            found = await settled(world, entry)
            assert (found.state in ("sent", "delivered"), bool(found.wa_id)) == (True, True)


async def test_a_send_cut_off_by_the_end_of_the_term_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its traces: there are none, so the next sender sends it."""
    monkeypatch.setattr("wad.flow.outbound.queue._DRAIN", 0.05)

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        await asyncio.Event().wait()
        return None

    async with a_world(tmp_path) as world:
        with monkeypatch.context() as patched:
            answer_with(patched, answer)
            async with world.leading():
                account = await world.connected()
                entry = await queue(world, account, BOB, "one")
                await until(
                    lambda: any(h.detail.get("state") == "sending" for h in world.bus.history),
                    "sending",
                )
        async with world.leading():
            assert (await settled(world, entry)).wa_id


@pytest.mark.parametrize("again", ["the same session", "paired again"])
async def test_only_the_sending_session_has_proof(tmp_path: Path, again: str) -> None:
    """An account that was paired again has no trace of the first session's messages: unknown, and not repeated."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        claim = Claimed(Claim("me", world.leader.epoch or 0, account.session_mark), b"a secret")
        assert claim.claim.session
        await account.stop()
        entry, ident = await queue(world, account, BOB, "one"), account.id
        await world.store.settle(entry.id, claim, epoch=world.leader.epoch or 0)
        if again == "paired again":
            account.account_dir.session_db.unlink()
            await account.pair()
            await until(lambda: account.status.state == "connected", "connected")
    async with a_world(tmp_path, boot="again") as world, world.leading():
        await world.accounts.start(world.accounts.find(ident))
        found = await settled(world, entry)
        if again == "paired again":
            assert found.state == "uncertain"
            assert "paired again" in found.error
        else:
            assert found.wa_id


@pytest.mark.parametrize(
    "error", [Unavailable("no answer"), TimedOut("no answer"), ValueError("ours"), BadInput("no")]
)
@pytest.mark.parametrize("woken", [False, True])
async def test_after_a_lost_claim_answer_nothing_overtakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, woken: bool
) -> None:
    """It was written: later messages of its chat wait until it is certain that it was not sent."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        settle, failing = world.store.settle, True

        async def lost(ident: str, outcome: Outcome, *, epoch: int) -> Entry:
            nonlocal failing
            done = await settle(ident, outcome, epoch=epoch)
            if failing and isinstance(outcome, Claimed):
                failing = False
                if woken:  # the outbox is checked while this message is still pending
                    world.outbound.wake(account.id)
                raise error
            return done

        monkeypatch.setattr(world.store, "settle", lost)
        await account.stop()
        entries = [await queue(world, account, BOB, f"bob {number}") for number in range(3)]
        await account.start()
        for entry in entries:
            assert (await settled(world, entry)).wa_id
        sent = [c.text for _, c, _ in world.worker(account).sent if isinstance(c, Text)]
        assert sent == ["bob 0", "bob 1", "bob 2"]


@pytest.mark.parametrize("seed", range(6))
async def test_after_any_error_every_message_ends_and_none_is_sent_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A store and an engine that fail at random, and then work again: each chat's messages are sent in order, once."""
    dice, healthy = random.Random(seed), False

    async def answer(worker: SimulatedWorker, to: Jid, content: Outgoing) -> SendResult | None:
        await asyncio.sleep(0)
        if healthy or dice.random() < 0.6:
            return None
        results: list[Any] = [
            NotSent("unknown reason"),
            NotSent("disk", unrelated=True),
            ValueError("ours"),
        ]
        result = dice.choice(results)
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    answer_with(monkeypatch, answer)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        settle, next_entry = world.store.settle, world.store.next_entry

        def fail() -> None:
            if not healthy and dice.random() < 0.15:
                raise dice.choice([Unavailable("away"), ValueError("ours"), BadInput("no")])

        async def flaky_settle(ident: str, outcome: Outcome, *, epoch: int) -> Entry:
            fail()
            done = await settle(ident, outcome, epoch=epoch)
            fail()  # it was written, and the answer was lost
            return done

        async def flaky_next(ident: str, *, but: Any = ()) -> Entry | None:
            fail()
            return await next_entry(ident, but=but)

        monkeypatch.setattr(world.store, "settle", flaky_settle)
        monkeypatch.setattr(world.store, "next_entry", flaky_next)
        entries = [
            await queue(world, account, to, f"{to.user} {number}")
            for number in range(8)
            for to in (BOB, ANN, EVE)
        ]
        await until(lambda: world.worker(account).sent or seed, "some", timeout=TIMEOUT)
        healthy = True
        world.outbound.wake(account.id)
        for entry in entries:
            assert (await settled(world, entry)).state not in OPEN
        sent = [(to, c.text) for to, c, _ in world.worker(account).sent if isinstance(c, Text)]
        assert len(sent) == len(set(sent))
        for person in (BOB, ANN, EVE):
            order = [text for to, text in sent if to == person]
            assert order == sorted(order)
