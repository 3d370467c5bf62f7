"""From outbox to engine: once each, in order, and `uncertain` where the result is unknown."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.small_world import World, a_world
from tests.support.waiting import TIMEOUT, until
from wad.core.errors import BadInput, Conflict, NotFound, TooLong, Unavailable
from wad.core.jid import Jid
from wad.core.message import MessageStatus
from wad.core.outbox import Claim, Claimed, Entry, NotSent, Refused, Unknown
from wad.core.outgoing import (
    Attachment,
    AttachmentKind,
    ContactCard,
    NewPoll,
    Outgoing,
    OwnReaction,
    Revoke,
    SharedLocation,
    Target,
    Text,
    TextEdit,
    target_of,
)
from wad.engine.simulator import SimulatedWorker
from wad.flow.accounts.account import Account
from wad.flow.outbound import queue, sender
from wad.flow.outbound.reaper import Reaper
from wad.flow.outbound.tidying import tidy_media

BOB = Jid.parse("15550000002@s.whatsapp.net")
ANN = Jid.parse("15550000003@s.whatsapp.net")


def texts_sent(world: World, account: Account) -> list[str]:
    """The messages that the simulated worker of an account has sent."""
    return [c.text for _, c, _ in world.worker(account).sent if isinstance(c, Text)]


async def refused(world: World, times: int) -> None:
    """Wait until a message has returned to the queue this number of times."""
    await until(
        lambda: (
            sum(h.text.startswith("queued to ") and ": " in h.text for h in world.bus.history)
            >= times
        )
    )


async def test_a_message_is_sent_and_delivered(tmp_path: Path) -> None:
    """queued, sending, sent, and delivered by its receipt."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        queued = await world.outbound.enqueue(account.id, BOB, Text("hello"))
        entry = await world.outbound.settled(queued.entry.id, timeout=TIMEOUT)
        assert entry.wa_id
        assert texts_sent(world, account) == ["hello"]
        for _ in range(500):
            entry = await world.store.entry(entry.id) or entry
            if entry.state == "delivered":
                break
            await asyncio.sleep(0.01)
        assert entry.state == "delivered"
        (message,) = await world.store.messages(entry.thread, limit=5)
        assert (message.status, message.wa_id) == ("delivered", entry.wa_id)


async def test_messages_are_sent_in_the_order_of_enqueuing(tmp_path: Path) -> None:
    """One account sends one at a time."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        entries = [
            (await world.outbound.enqueue(account.id, BOB, Text(f"text {n}"))).entry
            for n in range(10)
        ]
        await world.outbound.settled(entries[-1].id, timeout=TIMEOUT)
        assert texts_sent(world, account) == [f"text {n}" for n in range(10)]


async def test_the_same_key_twice_is_one_message(tmp_path: Path) -> None:
    """The second answer is a duplicate; another text under the same key is refused."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        first = await world.outbound.enqueue(account.id, BOB, Text("hello"), client_id="k1")
        second = await world.outbound.enqueue(account.id, BOB, Text("hello"), client_id="k1")
        assert (first.duplicate, second.duplicate) == (False, True)
        assert second.entry.id == first.entry.id
        with pytest.raises(Conflict, match="different message"):
            await world.outbound.enqueue(account.id, BOB, Text("other"), client_id="k1")
        await world.outbound.settled(first.entry.id, timeout=TIMEOUT)
        assert len(world.worker(account).sent) == 1


async def test_messages_wait_for_the_connection_without_counting_attempts(tmp_path: Path) -> None:
    """Messages queued while the account is disconnected are sent when it is back, on their first attempt."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        queued = await world.outbound.enqueue(account.id, BOB, Text("hello"))
        await asyncio.sleep(0.05)
        assert (await world.store.entry(queued.entry.id)).attempts == 0  # type: ignore[union-attr]
        await account.start()
        entry = await world.outbound.settled(queued.entry.id, timeout=TIMEOUT)
        assert entry.attempts == 1
        assert entry.wa_id


async def test_a_refused_message_fails_and_the_next_is_sent(tmp_path: Path) -> None:
    """A refusal is final for its message alone; an operator may send it again."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).result = Refused("not_on_whatsapp", "this number has no WhatsApp")
        first = (await world.outbound.enqueue(account.id, BOB, Text("one"))).entry
        entry = await world.outbound.settled(first.id, timeout=TIMEOUT)
        assert (entry.state, entry.error_code) == ("failed", "not_on_whatsapp")
        world.worker(account).result = None
        second = (await world.outbound.enqueue(account.id, BOB, Text("two"))).entry
        assert (await world.outbound.settled(second.id, timeout=TIMEOUT)).wa_id
        await world.outbound.retry(first.id)
        assert (await world.outbound.settled(first.id, timeout=TIMEOUT)).wa_id


async def test_a_failed_message_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the operation and the error's code as fields, and without its text."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).result = Refused("not_on_whatsapp", "this number has no WhatsApp")
        entry = (await world.outbound.enqueue(account.id, BOB, Text("a secret"))).entry
        await world.outbound.settled(entry.id, timeout=TIMEOUT)
        text = f"message {entry.id} failed: not_on_whatsapp"
        await until(lambda: text in caplog.messages, "the line of the log")
    (record,) = (record for record in caplog.records if record.getMessage() == text)
    fields = {name: getattr(record, name) for name in ("account", "operation", "code")}
    wanted = {"account": account.id, "operation": "messages.send", "code": "not_on_whatsapp"}
    assert fields == wanted
    assert "a secret" not in caplog.text


async def test_an_uncertain_message_is_not_sent_again_by_itself(tmp_path: Path) -> None:
    """It becomes uncertain and stays so."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).result = Unknown("WA1", "no answer")
        first = (await world.outbound.enqueue(account.id, BOB, Text("one"))).entry
        entry = await world.outbound.settled(first.id, timeout=TIMEOUT)
        assert entry.state == "uncertain"
        world.worker(account).result = None
        second = (await world.outbound.enqueue(account.id, BOB, Text("two"))).entry
        await world.outbound.settled(second.id, timeout=TIMEOUT)
        assert texts_sent(world, account) == ["two"]


async def test_not_sent_returns_to_the_queue(tmp_path: Path) -> None:
    """A message that was certainly not sent is tried again, and its attempt does not count."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).result = NotSent("not connected")
        entry = (await world.outbound.enqueue(account.id, BOB, Text("one"))).entry
        await until(lambda: any(": not" in h.text for h in world.bus.history))
        world.worker(account).result = None
        entry = await world.outbound.settled(entry.id, timeout=TIMEOUT)
        assert entry.wa_id
        assert entry.attempts == 1


async def test_unrelated_refusals_do_not_count_as_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a worker that has ended: however often, the message waits, and is sent in order."""
    monkeypatch.setattr(sender, "RETRY", 0.01)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).result = NotSent("database or disk is full", unrelated=True)
        texts = [f"text {n}" for n in range(9)]
        for number, text in enumerate(texts, 1):
            entry = (await world.outbound.enqueue(account.id, BOB, Text(text))).entry
            await refused(world, number)
        world.worker(account).result = None
        assert (await world.outbound.settled(entry.id, timeout=TIMEOUT)).wa_id
        assert texts_sent(world, account) == texts


async def test_new_messages_do_not_count_as_attempts(tmp_path: Path) -> None:
    """They wake the sender; a waiting chat is not tried because of that."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).result = NotSent("unknown reason")
        first = (await world.outbound.enqueue(account.id, BOB, Text("text 0"))).entry
        await refused(world, 1)
        for number in range(1, 9):
            await world.outbound.enqueue(account.id, BOB, Text(f"text {number}"))
        world.worker(account).result = None
        for number in range(3):
            other = await world.outbound.enqueue(account.id, ANN, Text(f"other {number}"))
            assert (await world.outbound.settled(other.entry.id, timeout=TIMEOUT)).wa_id
        assert (await world.outbound.settled(first.id, timeout=TIMEOUT)).wa_id


async def test_attempts_of_a_message_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that a connected library refuses repeatedly fails, and the next is sent."""
    monkeypatch.setattr(sender, "RETRY", 0.01)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).result = NotSent("unknown reason")
        first = (await world.outbound.enqueue(account.id, BOB, Text("one"))).entry
        entry = await world.outbound.settled(first.id, timeout=TIMEOUT)
        assert (entry.state, entry.error_code, entry.error) == (
            "failed",
            "not_sent",
            "unknown reason",
        )


@pytest.mark.parametrize(("left", "state"), [(False, "delivered"), (True, "uncertain")])
async def test_the_crash_rule(tmp_path: Path, left: bool, state: str) -> None:
    """After a crash while sending: without a trace it is sent; with one it is uncertain and not sent again."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        entry = (await world.outbound.enqueue(account.id, BOB, Text("one"))).entry
        claim = Claimed(Claim("me", 1), b"the secret of this attempt")
        await world.store.settle(entry.id, claim, epoch=world.leader.epoch or 0)
        ident = account.id
    async with a_world(tmp_path, boot="boot2") as world:
        if left:
            world.engine.left[b"the secret of this attempt"] = "WA7"
        async with world.leading():
            account = world.accounts.find(ident)
            await account.start()
            found = await world.store.entry(entry.id)
            for _ in range(500):
                found = await world.store.entry(entry.id)
                if found is not None and found.state == state:
                    break
                await asyncio.sleep(0.01)
            assert found is not None
            assert found.state == state
            await until(lambda: account.status.state == "connected", "connected")
            sent = texts_sent(world, account)
            assert sent == ([] if left else ["one"])


async def test_a_fault_while_a_message_is_sent_is_uncertain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been sent; the next one is not delayed."""

    async def fail(*_arguments: object) -> None:
        raise ValueError("a fault of ours")

    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with monkeypatch.context() as patched:
            patched.setattr(world.worker(account), "send", fail)
            first = await world.outbound.enqueue(account.id, BOB, Text("one"))
            entry = await world.outbound.settled(first.entry.id, timeout=TIMEOUT)
            assert (entry.state, "ValueError" in entry.error) == ("uncertain", True)
        second = await world.outbound.enqueue(account.id, BOB, Text("two"))
        await world.outbound.settled(second.entry.id, timeout=TIMEOUT)
        assert texts_sent(world, account) == ["two"]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (Unavailable("the store is away"), "cannot send: the store is away"),
        (ValueError("a secret"), "cannot send: an internal error: ValueError"),
    ],
)
async def test_a_send_queue_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, shown: str
) -> None:
    """Status, health and metrics show it for as long as it lasts."""

    async def fail(account: str, **_: object) -> None:
        raise error

    monkeypatch.setattr(sender, "RETRY", 0.01)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with monkeypatch.context() as patched:
            patched.setattr(world.store, "next_entry", fail)
            queued = await world.outbound.enqueue(account.id, BOB, Text("hello"))
            await until(lambda: account.warnings == [shown], "the warning")
        await world.outbound.settled(queued.entry.id, timeout=TIMEOUT)
        await until(lambda: account.warnings == [], "no warning")


async def test_an_error_in_the_check_for_stranded_messages_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and checked again."""
    looks: list[int] = []

    async def fail(reaper: Reaper) -> None:
        looks.append(1)
        raise ValueError("a fault of ours")

    monkeypatch.setattr(queue, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(Reaper, "run", fail)
    async with a_world(tmp_path) as world, world.leading():
        await until(lambda: len(looks) > 1, "another look")
    assert "reaper failed: an internal error: ValueError" in caplog.text


async def test_another_machines_pending_entry_is_never_sent_again(tmp_path: Path) -> None:
    """This machine's session has no trace of it, which proves nothing: whenever it is found, it is uncertain."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            ident = (await world.connected()).id
        async with world.leading():
            account = world.accounts.find(ident)
            await until(lambda: account.status.state == "connected", "connected")
            entry = Entry(
                id="e9", account=ident, thread=f"{ident}__{BOB}", to=str(BOB), content=Text("one"), client_id="k9",
                secret=b"theirs", created_ms=1, state=MessageStatus.SENDING, attempts=1, claim=Claim("there", 1),
            )  # fmt: skip
            await world.store.enqueue(entry)
            world.outbound.wake(ident)
            found = await world.outbound.settled(entry.id, timeout=TIMEOUT)
            assert (found.state, texts_sent(world, account)) == ("uncertain", [])


async def test_a_pending_send_is_finished_when_the_term_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graceful stop leaves no message in `sending`."""
    send = SimulatedWorker.send

    async def slow(
        self: SimulatedWorker, to: Jid, content: Outgoing, secret: bytes, asked_ms: int
    ) -> object:
        await asyncio.sleep(0.3)
        return await send(self, to, content, secret, asked_ms)

    monkeypatch.setattr(SimulatedWorker, "send", slow)
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
            entry = (await world.outbound.enqueue(account.id, BOB, Text("one"))).entry
            await until(
                lambda: any(h.detail.get("state") == "sending" for h in world.bus.history),
                "sending",
            )
        found = await world.store.entry(entry.id)
        assert found is not None
        assert found.wa_id


async def test_an_account_added_while_the_term_ends_keeps_no_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender belongs to one epoch, and the next term makes its own."""
    close = sender.Sender.close

    async with a_world(tmp_path) as world:

        async def closing(self: sender.Sender, timeout: float) -> None:
            if len(world.accounts.all()) == 1:
                await world.accounts.add("late")
            await close(self, timeout)

        monkeypatch.setattr(sender.Sender, "close", closing)
        async with world.leading():
            await world.connected()
        assert len(world.accounts.all()) == 2
        assert [loop.name for loop in world.loops.running if loop.name == "outbound"] == []


async def test_every_kind_uses_the_same_pipeline(tmp_path: Path) -> None:
    """Queued, sent, delivered; an amendment is shown only in its message."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        first = (await world.outbound.enqueue(account.id, BOB, Text("helo"))).entry
        first = await world.outbound.settled(first.id, timeout=TIMEOUT)
        message = await world.store.message(first.id)
        assert message is not None
        target = target_of(message)
        contents: list[Outgoing] = [
            Attachment(kind=AttachmentKind.IMAGE, sha256="0" * 64, size=1, mimetype="image/png"),
            SharedLocation(1, 2), ContactCard("Ann", "+15550000003"), NewPoll("Tea?", ("yes", "no")),
            OwnReaction(target, "👍"), TextEdit(target, "hello"), Revoke(target),
        ]  # fmt: skip
        for content in contents:
            entry = (await world.outbound.enqueue(account.id, BOB, content)).entry
            entry = await world.outbound.settled(entry.id, timeout=TIMEOUT)
            assert entry.wa_id, content
        assert [content for _, content, _ in world.worker(account).sent[1:]] == contents
        shown = await world.store.messages(first.thread, limit=20)
        assert Counter(m.content.kind for m in shown) == Counter(
            ["revoke", "image", "location", "contact", "poll"]
        )


async def test_an_edit_that_waited_for_too_long_is_not_sent(tmp_path: Path) -> None:
    """The account was disconnected; messages that are too late by then fail, with the reason."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        target = Target("O1", str(BOB), from_me=True, at_ms=world.clock.wall_ms() - 10 * 60_000)
        await account.stop()
        queued = await world.outbound.enqueue(
            account.id, BOB, TextEdit(target, "hello"), client_id="k1"
        )
        world.clock.ahead_ms = 11 * 60_000
        with pytest.raises(Conflict, match="21 minutes"):
            await world.outbound.enqueue(account.id, BOB, TextEdit(target, "hello"))
        again = await world.outbound.enqueue(
            account.id, BOB, TextEdit(target, "hello"), client_id="k1"
        )
        assert again.duplicate
        await account.start()
        entry = await world.outbound.settled(queued.entry.id, timeout=TIMEOUT)
        assert (entry.state, entry.error_code) == ("failed", "conflict")
        assert "21 minutes" in entry.error
        assert world.worker(account).sent == []


async def test_files_that_wait_are_needed(tmp_path: Path) -> None:
    """A file is deleted once its message was sent and it is old; until then it stays."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        upload = world.media.begin(AttachmentKind.IMAGE, 5)
        done = await world.media.put(upload, 0, b"whole")
        os.utime(world.media.root / done.sha256, (1000, 1000))
        content = Attachment(
            kind=AttachmentKind.IMAGE, sha256=done.sha256, size=5, mimetype="image/png"
        )
        for number in range(3):
            await world.outbound.enqueue(account.id, BOB, Text(f"text {number}"))
        entry = (await world.outbound.enqueue(account.id, BOB, content)).entry
        await tidy_media(world.store, world.media, 2_000_000)
        assert (world.media.root / done.sha256).exists()
        await account.start()
        await world.outbound.settled(entry.id, timeout=TIMEOUT)
        await tidy_media(world.store, world.media, 2_000_000)
        assert not (world.media.root / done.sha256).exists()


async def test_bad_texts_are_refused(tmp_path: Path) -> None:
    """An empty or oversize text is not queued."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with pytest.raises(BadInput):
            await world.outbound.enqueue(account.id, BOB, Text("  "))
        with pytest.raises(TooLong):
            await world.outbound.enqueue(account.id, BOB, Text("x" * 70_000))
        assert await world.store.entries(None) == []


async def test_cancel_and_unknown_entries(tmp_path: Path) -> None:
    """A waiting message can be cancelled; one that does not exist is not found."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        entry = (await world.outbound.enqueue(account.id, BOB, Text("one"))).entry
        assert (await world.outbound.cancel(entry.id)).error_code == "cancelled"
        with pytest.raises(NotFound):
            await world.outbound.retry("nothing")
