"""From spool to store: nothing is lost, nothing is stored twice, whatever fails in between."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_world import a_world, no_gap
from tests.support.waiting import TIMEOUT, until
from wad.api.views.problems import problems_of
from wad.core.addresses import Addresses
from wad.core.change import PutMessage
from wad.core.errors import BadInput, Damaged, StateUnwritable, Unavailable
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    Content,
    Event,
    HistoryReceived,
    MessageKind,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
    encode,
)
from wad.core.jid import Jid, ThreadId
from wad.core.plan import plan
from wad.core.problem import degraded
from wad.flow.accounts.account import Account
from wad.flow.inbound import planning
from wad.flow.inbound.pipeline import Inbound
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.state import damaged_copies
from wad.state.spool import Salvaged, Spool

BOB = Jid.parse("15550000002@s.whatsapp.net")
BOB_LID = Jid.parse("900000000000002@lid")


async def test_messages_are_recorded_in_order_of_arrival(tmp_path: Path) -> None:
    """Messages end in their thread, newest first."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for number in range(30):
            world.worker(account).receive(BOB, f"text {number}", at_ms=1_700_000_000_000 + number)
        await until(lambda: account.inbound.recorded == 30, "30 messages")
        thread = str(ThreadId.make(account.id, BOB))
        texts = [m.content.text for m in await world.store.messages(thread, limit=50)]
        assert texts == [f"text {number}" for number in reversed(range(30))]
        assert account.inbound.backlog == 0


async def test_a_message_has_its_time_of_arrival_in_microseconds(tmp_path: Path) -> None:
    """It orders messages that WhatsApp sent in one second."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        before = world.clock.wall_ms()
        world.worker(account).receive(BOB, "hello")
        await until(lambda: account.inbound.recorded == 1, "the message")
        (message,) = await world.store.messages(str(ThreadId.make(account.id, BOB)), limit=2)
        assert before <= message.seen // 1000 <= world.clock.wall_ms()


async def test_a_burst_within_one_millisecond_keeps_its_order(tmp_path: Path) -> None:
    """However many rows have the same time, and whatever their numbers."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        sent = [
            MessageReceived(f"ID{number}", BOB, BOB, 1000, Content(MessageKind.TEXT, str(number)))
            for number in range(1005)
        ]
        spool = Spool.open(account.account_dir.spool_db)
        rows = [(7, "message", event.id, b"", encode(event), "") for event in sent]
        spool.append_salvaged(rows, "elsewhere", Salvaged())
        spool.close()
        account.inbound.wake()
        await until(lambda: account.inbound.recorded == len(sent), "the burst")
        thread = str(ThreadId.make(account.id, BOB))
        stored = await world.store.messages(thread, limit=2000)
        assert [message.content.text for message in reversed(stored)] == [
            event.content.text for event in sent
        ]


async def test_a_redelivered_message_is_counted_not_stored(tmp_path: Path) -> None:
    """The same WhatsApp id again changes nothing."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for _ in range(3):
            world.worker(account).receive(BOB, "once", wa_id="SAME")
        await until(lambda: account.inbound.duplicates == 2, "two duplicates")
        assert account.inbound.recorded == 1


async def test_a_failing_store_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store refuses, the backlog grows and has a reason; afterwards everything is stored, in order."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        good = world.store.record

        async def bad(*_: object, **__: object) -> None:
            raise Unavailable("the store is away")

        monkeypatch.setattr(world.store, "record", bad)
        for number in range(5):
            world.worker(account).receive(BOB, f"text {number}")
        await until(lambda: account.inbound.error, "an error in status")
        assert account.inbound.error == "the store is away"
        await until(lambda: account.inbound.backlog == 5, "what waits")
        assert account.inbound.oldest_ms
        monkeypatch.setattr(world.store, "record", good)
        await until(lambda: account.inbound.recorded == 5, "five messages")
        await until(lambda: account.inbound.error == "", "no error in status")
        assert account.inbound.backlog == 0
        assert not account.inbound.oldest_ms


async def test_inbound_continues_without_the_lease(tmp_path: Path) -> None:
    """Messages that were received before the lease was lost are stored although the instance is passive."""
    async with a_world(tmp_path) as world:
        async with world.leading():
            account = await world.connected()
        spool = Spool.open(account.account_dir.spool_db)
        async with world.leading():
            await until(lambda: account.status.state == "connected", "connected")
            world.worker(account).receive(BOB, "late")
        spool.close()
        await until(lambda: account.inbound.recorded == 1, "the message")


async def test_an_untranslatable_event_is_kept_and_counted(tmp_path: Path) -> None:
    """It stays raw in the spool, is shown in status, and delays no later row."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        spool = Spool.open(account.account_dir.spool_db)
        spool.append(
            received_ms=1, kind="message", wa_id="", raw=b"?", event=None, reason="no reason"
        )
        spool.close()
        world.worker(account).receive(BOB, "after it")
        await until(lambda: account.inbound.recorded == 1, "the message behind it")
        assert account.inbound.untranslated == 1
        (problem,) = [one for one in problems_of(account) if one.code == "untranslated"]
        assert (problem.figures, degraded([problem])) == ((1,), False)
        (item,) = await account.quarantine.items()
        await account.quarantine.drop(item.id)
        assert "untranslated" not in [one.code for one in problems_of(account)]


async def test_the_next_process_continues_at_the_cursor(tmp_path: Path) -> None:
    """The cursor survives; nothing is recorded a second time."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.worker(account).receive(BOB, "hello")
        await until(lambda: account.inbound.recorded == 1, "the message")
        ident = account.id
    async with a_world(tmp_path, boot="boot2") as world, world.leading():
        account = world.accounts.find(ident)
        await until(lambda: account.status.state == "connected", "connected")
        world.worker(account).receive(BOB, "again", wa_id="ANOTHER")
        await until(lambda: account.inbound.recorded == 1, "the second message")
        assert account.inbound.duplicates == 0
        assert (await world.store.totals(ident)).messages == 2


async def test_ended_while_it_opens_the_spool_it_leaves_no_file_open(tmp_path: Path) -> None:
    """The thread that opens it cannot be cancelled; the opened spool is closed all the same."""
    begun, go = threading.Event(), threading.Event()
    opened: list[Spool] = []

    def slowly() -> Spool:
        begun.set()
        go.wait(TIMEOUT)
        opened.append(Spool.open(tmp_path / "spool.db"))
        return opened[0]

    async with a_world(tmp_path) as world:
        inbound = Inbound(
            "acc-1", slowly, world.store, world.bus, SystemClock(), batch=10, retention_days=1,
            on_recorded=lambda messages: None, on_answer=lambda answer: None, on_damaged=lambda error: None,
            on_replaced=lambda: False, on_gap=no_gap,
        )  # fmt: skip
        task = Loops(SystemClock()).start("inbound", inbound.run)
        await asyncio.to_thread(begun.wait, TIMEOUT)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go.set)
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(Unavailable, match="closed"):
            opened[0].last_seq()


async def test_a_cursor_that_cannot_be_read_skips_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of a new spool start with 1 again: the previous spool's cursor does not apply to them."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for number in range(5):
            append(account, text(number))
        await until(lambda: account.inbound.recorded == 5, "five messages")
        cursor, fails = world.store.cursor, [Unavailable("the store is away")]

        async def failing(ident: str) -> object:
            if fails:
                raise fails.pop()
            return await cursor(ident)

        monkeypatch.setattr(world.store, "cursor", failing)
        await account.inbound.close()
        for part in account.account_dir.path.glob("spool.db*"):
            part.unlink()
        append(account, text(77))
        await until(lambda: account.inbound.recorded == 6, "the message in the new spool")


async def test_the_spool_is_opened_once_for_all_callers(tmp_path: Path) -> None:
    """An operator's query while it is opened neither opens it again nor moves the cursor back."""
    opened: list[Spool] = []

    def open_spool() -> Spool:
        opened.append(Spool.open(tmp_path / "spool.db"))
        return opened[-1]

    async with a_world(tmp_path) as world:
        inbound = Inbound(
            "acc-1", open_spool, world.store, world.bus, SystemClock(), batch=10, retention_days=1,
            on_recorded=lambda messages: None, on_answer=lambda answer: None, on_damaged=lambda error: None,
            on_replaced=lambda: False, on_gap=no_gap,
        )  # fmt: skip
        await asyncio.gather(inbound.quarantined(1), inbound.quarantined(1), inbound.row(1))
        await inbound.close()
        assert len(opened) == 1


async def test_a_spool_that_is_quarantined_while_it_is_opened_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file is."""
    opened: list[Spool] = []

    def open_spool() -> Spool:
        opened.append(Spool.open(tmp_path / f"spool{len(opened)}.db"))
        return opened[-1]

    async with a_world(tmp_path) as world:
        inbound = Inbound(
            "acc-1", open_spool, world.store, world.bus, SystemClock(), batch=10, retention_days=1,
            on_recorded=lambda messages: None, on_answer=lambda answer: None, on_damaged=lambda error: None,
            on_replaced=lambda: False, on_gap=no_gap,
        )  # fmt: skip
        cursor = world.store.cursor

        async def closing(ident: str) -> object:
            if len(opened) == 1:
                await inbound.close()
            return await cursor(ident)

        monkeypatch.setattr(world.store, "cursor", closing)
        await inbound.quarantined(1)
        assert len(opened) == 2
        with pytest.raises(Unavailable, match="closed"):
            opened[0].last_seq()
        await inbound.close()


async def test_a_history_chunk_is_recorded_whole(tmp_path: Path) -> None:
    """One row of the spool, many messages, in their threads; untranslated items are counted."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        items = [
            MessageReceived(
                f"ID{number}", BOB_LID, BOB_LID, number, Content(MessageKind.TEXT, f"text {number}")
            )
            for number in range(1, 4)
        ]
        event = HistoryReceived(
            (AliasReceived(BOB_LID, BOB), ChatReceived(BOB, name="Bob", read_ms=2), *items),
            skipped=2,
        )
        append(account, event)
        await until(lambda: account.inbound.recorded == 3, "three messages")
        assert account.inbound.skipped == 2
        thread = await world.store.thread(str(ThreadId.make(account.id, BOB)))
        assert thread is not None
        assert (thread.name, thread.messages, thread.unread) == ("Bob", 3, 1)


async def test_changes_of_a_message_are_published(tmp_path: Path) -> None:
    """Followers of events are notified of an edit, without its text."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        wa_id = world.worker(account).receive(BOB, "old")
        edit = Content(MessageKind.EDIT, "secret", target=wa_id)
        append(account, MessageReceived("EDIT", BOB, BOB, 1, edit))
        await until(lambda: any(h.text == "a text changed" for h in world.bus.history), "the edit")
        assert not any("secret" in h.text for h in world.bus.history)


async def test_lost_messages_are_known_to_status(tmp_path: Path) -> None:
    """From the store at the start, and from later messages."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        lost = Content(MessageKind.LOST)
        append(account, MessageReceived("ID1", BOB, BOB, 1, lost))
        append(account, MessageReceived("ID2", BOB, BOB, 2, lost))
        await until(lambda: account.inbound.lost == 2, "two lost messages")
        ident = account.id
    async with a_world(tmp_path, boot="boot2") as world, world.leading():
        account = world.accounts.find(ident)
        await until(lambda: account.inbound.lost == 2, "two lost messages, known from the store")
        append(account, MessageReceived("ID1", BOB, BOB, 1, Content(MessageKind.TEXT, "here")))
        await until(lambda: account.inbound.lost == 1, "one lost message")


def append(account: Account, event: Event) -> None:
    """A row of the spool, as the worker writes it."""
    spool = Spool.open(account.account_dir.spool_db)
    spool.append(received_ms=1, kind="event", wa_id="", raw=b"", event=encode(event))
    spool.close()
    account.inbound.wake()


async def test_history_is_counted_separately(tmp_path: Path) -> None:
    """New and known messages, of all chunks and of the latest; the newest message's time is known."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        inbound = account.inbound
        items = [
            MessageReceived(f"H{n}", BOB, BOB, 1000 * n, Content(MessageKind.TEXT, str(n)))
            for n in range(1, 4)
        ]
        append(account, HistoryReceived(tuple(items[:2])))
        await until(lambda: inbound.recorded == 2, "the first chunk")
        append(account, HistoryReceived(tuple(items)))
        await until(lambda: inbound.recorded == 3, "the second chunk")
        append(account, ReceiptReceived(("X",), BOB, BOB, ReceiptMark.READ, 5000))
        await until(lambda: inbound.receipts == 1, "the receipt")
        history = inbound.history
        assert (history.recorded, history.known, history.last_messages) == (3, 2, 3)
        assert history.last_ms is not None
        assert inbound.last_message_ms == 3000


# --- rows that cannot be recorded -----------------------------------------------------------------

TOO_LATE = 2**63
"""A time that no store can hold."""


def text(number: int, at_ms: int = 1000) -> MessageReceived:
    """A message."""
    return MessageReceived(f"ID{number}", BOB, BOB, at_ms, Content(MessageKind.TEXT, str(number)))


def append_bytes(account: Account, event: bytes, raw: bytes = b"") -> None:
    """A row that an older or a broken worker wrote."""
    spool = Spool.open(account.account_dir.spool_db)
    spool.append(received_ms=1, kind="message", wa_id="BAD", raw=raw, event=event)
    spool.close()
    account.inbound.wake()


@pytest.mark.parametrize(
    "bad",
    [
        b"\xc1nonsense",
        b"",
        encode(text(1)).replace(b"\xa3ID1", b"\xa3I\xffD"),
        encode(text(1, TOO_LATE)),
    ],
    ids=["no event", "empty", "no text", "refused by the store"],
)
async def test_a_row_that_cannot_be_recorded_is_skipped(tmp_path: Path, bad: bytes) -> None:
    """It is kept, counted and named; the file does not count as damaged, and the worker stays."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        append(account, text(2))
        append_bytes(account, bad)
        append(account, text(3))
        await until(lambda: account.inbound.recorded == 2, "the messages around it")
        await until(lambda: account.inbound.backlog == 0, "nothing waits")
        assert account.inbound.set_aside == 1
        assert (account.inbound.error, account.restarts) == ("", 0)
        assert any("could not be recorded" in warning for warning in account.warnings)
        (item,) = await account.quarantine.items()
        assert item.name == "row 2: message BAD"
        assert item.reason
        assert sorted(path.name for path in account.account_dir.path.glob("*damaged*")) == []


@pytest.mark.parametrize("received_ms", [2**62, 2**63 - 1, -(2**62), 10**15])
async def test_a_row_with_an_absurd_time_affects_no_other(tmp_path: Path, received_ms: int) -> None:
    """Rows arrive one after the other: one from the far future would block all later ones."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        spool = Spool.open(account.account_dir.spool_db)
        bad = encode(text(1))
        spool.append(received_ms=received_ms, kind="message", wa_id="ID1", raw=b"", event=bad)
        spool.close()
        append(account, text(2))
        append(account, text(3))
        await until(lambda: account.inbound.recorded == 3, "all messages")
        assert account.inbound.set_aside == 0


async def test_a_row_that_cannot_be_planned_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with wad's own rules."""

    def failing(
        account: str, event: Event, aliases: Addresses, seen: int, reported_ms: int
    ) -> object:
        if isinstance(event, MessageReceived) and event.id == "ID2":
            raise KeyError("a fault of ours")
        return plan(account, event, aliases, seen, reported_ms)

    monkeypatch.setattr(planning, "plan", failing)
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for number in (1, 2, 3):
            append(account, text(number))
        await until(lambda: account.inbound.recorded == 2, "the other two")
        await until(lambda: account.inbound.set_aside == 1, "the one")


@pytest.mark.parametrize("bad", ["refused", "undecodable"])
async def test_a_bad_item_of_a_history_chunk_drops_only_that_item(tmp_path: Path, bad: str) -> None:
    """All others are recorded, and the row is kept."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        items = tuple(text(n, TOO_LATE if n == 5 and bad == "refused" else n) for n in range(1, 10))
        chunk = encode(HistoryReceived(items))
        if bad == "undecodable":
            chunk = chunk.replace(b"\xa3ID5", b"\xa3I\xff5")
        append_bytes(account, chunk)
        append(account, text(20))
        await until(lambda: account.inbound.recorded == 9, "eight of nine, and what follows")
        (item,) = await account.quarantine.items()
        assert item.reason.startswith("1 of 9 items: ")
        assert account.inbound.set_aside == 1


async def test_a_quarantined_row_survives_a_restart(tmp_path: Path) -> None:
    """Until an operator drops it."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        append_bytes(account, b"\xc1")
        await until(lambda: account.inbound.set_aside == 1, "the row")
        ident = account.id
    async with a_world(tmp_path, boot="boot2") as world, world.leading():
        account = world.accounts.find(ident)
        await until(lambda: account.inbound.set_aside == 1, "the row, known from the spool")
        (item,) = await account.quarantine.items()
        await account.quarantine.drop(item.id)
        assert (account.inbound.set_aside, account.quarantine.count) == (0, 0)


async def test_a_quarantined_row_is_recorded_with_current_code(tmp_path: Path) -> None:
    """Or stays, with the reason."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        append_bytes(account, b"\xc1", raw=b"good")
        append_bytes(account, b"\xc1", raw=b"bad")
        await until(lambda: account.inbound.set_aside == 2, "both rows")

        async def translate(kind: str, raw: bytes) -> bytes:
            return encode(text(8, TOO_LATE) if raw == b"bad" else text(7))

        world.engine.translate = translate  # type: ignore[method-assign]
        bad, good = await account.quarantine.items()
        assert await account.quarantine.retry(good.id) == "recorded, with 1 new messages"
        with pytest.raises(BadInput):
            await account.quarantine.retry(bad.id)
        assert account.inbound.set_aside == 1
        assert (await world.store.totals(account.id)).messages == 1


async def test_a_store_that_fails_quarantines_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is the store's problem: waiting rows are tried again."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        record, fails = world.store.record, [Unavailable("gone"), MemoryError(), OSError("none")]

        async def failing(*args: object) -> object:
            if fails:
                raise fails.pop()
            return await record(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(world.store, "record", failing)
        append(account, text(1))
        await until(lambda: account.inbound.recorded == 1, "the message, in the end")
        assert account.inbound.set_aside == 0


async def test_a_store_with_a_fault_does_not_spin_over_a_row_without_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop fails, reports it, and waits before it tries again."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        good = world.store.record

        async def failing(*_: object) -> object:
            await asyncio.sleep(0)
            raise KeyError("a fault of ours")

        monkeypatch.setattr(world.store, "record", failing)
        spool = Spool.open(account.account_dir.spool_db)
        spool.append(received_ms=1, kind="x", wa_id="", raw=b"?", event=None, reason="no reason")
        spool.close()
        account.inbound.wake()
        await until(lambda: account.inbound.error, "an error in status")
        monkeypatch.setattr(world.store, "record", good)
        await until(lambda: account.inbound.error == "", "no error any more")
        (item,) = await account.quarantine.items()
        assert item.reason == "no reason"


@pytest.mark.parametrize("fails_at", range(1, 9))
async def test_rows_recorded_before_a_store_failure_are_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """A history chunk with a bad item is recorded in parts, and the store fails in between: all are recorded."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        reported: list[str] = []
        account.on_recorded = lambda messages: reported.extend(one.wa_id for one in messages)
        good, calls = world.store.record, 0

        async def record(ident: str, changes: Any, cursor: Any = None) -> Any:
            nonlocal calls
            calls += 1
            if any(isinstance(one, PutMessage) and one.message.wa_id == "ID3" for one in changes):
                raise ValueError("a fault of this item")
            if calls == fails_at:
                raise Unavailable("the store is away")
            return await good(ident, changes, cursor)

        monkeypatch.setattr(world.store, "record", record)
        append(account, HistoryReceived(tuple(text(number) for number in range(6))))
        append(account, text(7))
        await until(lambda: account.inbound.recorded == 6 and calls > fails_at, "all of it")
        assert sorted(reported) == ["ID0", "ID1", "ID2", "ID4", "ID5", "ID7"]
        assert (account.inbound.recorded, account.inbound.set_aside) == (6, 1)
        assert account.inbound.history.recorded == 5


@pytest.mark.parametrize("by", ["the loop", "the next process"])
async def test_a_salvage_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The disk is full after the damaged spool was renamed: its rows wait there, named, until there is space."""
    monkeypatch.setattr("wad.flow.accounts.account_files._CARRY_OVER_RETRY", 0.05)

    def full(*_: object) -> None:
        raise StateUnwritable("the disk is full")

    with monkeypatch.context() as patched:
        async with a_world(tmp_path) as world, world.leading():
            account = await world.connected()
            append(account, text(1))
            await until(lambda: account.inbound.recorded == 1, "a message")
            patched.setattr(Spool, "append_salvaged", full)
            record = world.store.record

            async def fail(*_: object) -> None:
                raise Unavailable("away")

            patched.setattr(world.store, "record", fail)
            append(account, text(2))
            await until(lambda: account.inbound.error, "it cannot be recorded")
            account.files.spool_damaged(Damaged("spool.db is damaged"))
            await until(lambda: "unsaved" in [one.code for one in account.problems], "it is named")
            patched.setattr(world.store, "record", record)
            if by == "the loop":
                patched.undo()
                await until(lambda: account.inbound.recorded == 2, "the other message")
                assert "unsaved" not in [one.code for one in account.problems]
                assert account.inbound.duplicates == 0
    if by == "the next process":
        async with a_world(tmp_path, boot="again") as world:
            account = world.accounts.find(account.id)
            await until(lambda: account.inbound.recorded == 1, "the other message")
            assert account.inbound.duplicates == 0
    assert not list(account.account_dir.path.glob("*.pending"))


async def test_the_notice_of_a_copy_ends_with_it(tmp_path: Path) -> None:
    """Whether an operator drops it or moves it away."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for act in ("drop", "move"):
            account.files.spool_damaged(Damaged("spool.db is damaged"))
            await until(
                lambda: sum(one.code == "notice" for one in account.problems) == 2, "notices"
            )
            (item,) = await account.quarantine.items()
            if act == "drop":
                await account.quarantine.drop(item.id)
            else:
                Path(item.name).rename(tmp_path / "elsewhere")
                await account.quarantine.list_copies()
            assert not [one.code for one in account.problems]


async def test_copies_that_cannot_be_listed_are_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No handle is left: the last known items stay, and the error is shown."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        account.files.spool_damaged(Damaged("spool.db is damaged"))
        await until(lambda: account.quarantine.copies, "the copy")

        def fail(*_: object) -> object:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        with monkeypatch.context() as patched:
            patched.setattr(os, "scandir", fail)
            await account.quarantine.list_copies()
        assert {"set_aside", "copies_unknown"} <= {one.code for one in account.problems}
        await account.quarantine.list_copies()
        assert "copies_unknown" not in {one.code for one in account.problems}


async def test_a_damaged_spool_is_saved_from_the_cursor_on(tmp_path: Path) -> None:
    """What was recorded is not recorded again, and the copies are named until an operator removes them."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        for number in range(50):
            append(account, text(number))
        await until(lambda: account.inbound.recorded == 50, "fifty messages")
        for _ in range(4):
            account.files.spool_damaged(Damaged("spool.db is damaged"))
            await until(lambda: account.files.damage is None, "the salvage")
            await until(lambda: account.status.state == "connected", "connected again")
        append(account, text(77))
        await until(lambda: account.inbound.recorded == 51, "the next message")
        assert account.inbound.duplicates == 0
        assert len(account.quarantine.copies) == damaged_copies.KEPT
        assert any("copies of files were set aside" in warning for warning in account.warnings)
        for item in await account.quarantine.items():
            await account.quarantine.drop(item.id)
        assert [problem.code for problem in account.problems] == []
