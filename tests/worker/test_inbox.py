"""From the library's handler to the spool: order, commits, and when the handler waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.protobufs import Message, pb
from tests.support.waiting import until_threads as until
from wad.core.errors import Damaged, StateUnwritable
from wad.lib.clock import SystemClock
from wad.state.spool import Arrival, Spool
from wad.worker import inbox as module
from wad.worker.inbox import Inbox
from wad.worker.log_lines import message_key
from wad.worker.message_secrets import MessageSecrets
from wad.worker.translation import OpeningKeys


def a_message(ident: str, text: str = "hello", *, from_me: bool = False) -> bytes:
    """A neonize MessageEv; without a text it contains nothing to store."""
    bob = pb.JID(User="9", Server="lid", Device=0, RawAgent=0, Integrator=0, IsEmpty=False)
    none = pb.JID(User="", Server="", Device=0, RawAgent=0, Integrator=0, IsEmpty=True)
    source = pb.MessageSource(
        Chat=bob, Sender=bob, IsFromMe=from_me, SenderAlt=none, RecipientAlt=none
    )
    body = Message(conversation=text) if text else Message()
    info = pb.MessageInfo(ID=ident, MessageSource=source, Timestamp=1_700_000_000)
    raw: bytes = pb.Message(Info=info, Message=body).SerializePartialToString()
    return raw


class SlowSpool:
    """A spool whose disk does nothing until it is allowed to."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.errors: list[BaseException] = []
        self.batches: list[list[str]] = []
        self.may = threading.Event()
        self.may.set()

    def take(self, arrivals: Iterable[Arrival]) -> int:
        """Store, or fail with the next error."""
        self.may.wait(20)
        if self.errors:
            raise self.errors.pop(0)
        batch = list(arrivals)
        self.batches.append([one.wa_id for one in batch])
        return self._spool.take(batch)


class Box:
    """An inbox, and its callbacks' arguments."""

    def __init__(
        self,
        spool: Spool,
        *,
        batch: bool = True,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.spool = SlowSpool(spool)
        self.stored: list[int] = []
        self.done: list[str] = []
        self.held: list[str] = []
        self.failed: list[BaseException] = []
        self.inbox = Inbox(
            self.spool,  # type: ignore[arg-type]
            SystemClock(),
            keys=OpeningKeys(lambda raw: (), MessageSecrets()),
            batch=batch,
            on_stored=self.stored.append,
            on_done=self.done.extend,
            on_held=self.held.append,
            on_failed=self.failed.append,
            pause=pause,
        )


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """An empty spool."""
    with closing(Spool.open(tmp_path / "spool.db")) as spool:
        yield spool


def kinds(spool: Spool) -> list[tuple[str, str]]:
    """The stored rows."""
    return [(row.kind, row.wa_id) for row in spool.after(0, 100)]


def test_a_batching_handler_returns_at_once(spool: Spool) -> None:
    """Events that arrive while the disk is busy are stored together, in order, and reported when stored."""
    box = Box(spool)
    box.spool.may.clear()
    for number in range(5):
        box.inbox.take("Message", a_message(f"A{number}"))
    assert box.done == []
    box.spool.may.set()
    assert box.inbox.drain(20)
    assert [message_key(ident) for batch in box.spool.batches for ident in batch] == box.done
    assert box.done == [message_key(f"A{number}") for number in range(5)]
    assert len(box.spool.batches) <= 2
    assert box.stored[-1] == 5


def test_a_message_that_the_library_dropped_is_an_untranslated_row(spool: Spool) -> None:
    """Each is counted, with a reason of bounded length, and the gate counts it as an event without a key."""
    box = Box(spool)
    for why in ("no time", "no time", "\udcff" * 10_000):
        box.inbox.take_dropped(why)
    assert box.inbox.drain(20)
    assert box.done == ["", "", ""]
    found = spool.untranslated_rows(10)
    assert [row.wa_id for row in found] == ["", "", ""]
    assert found[0].reason == "the library could not read a message: no time"
    assert len(found[2].reason) <= 300


def test_a_burst_gathers_between_two_commits(spool: Spool) -> None:
    """The first event is stored at once, those within the pause in one commit."""
    over = threading.Event()

    def pause(_seconds: float) -> None:
        over.wait(20)

    box = Box(spool, pause=pause)
    box.inbox.take("Message", a_message("A"))
    assert box.inbox.drain(20)
    for ident in ("B", "C", "D"):
        box.inbox.take("Message", a_message(ident))
    over.set()
    assert box.inbox.drain(20)
    assert box.spool.batches == [["A"], ["B", "C", "D"]]


def test_without_batching_the_handler_waits_for_the_commit(spool: Spool) -> None:
    """Returning means that there is room for more."""
    box = Box(spool, batch=False)
    box.spool.may.clear()
    handler = threading.Thread(target=box.inbox.take, args=("Message", a_message("A")), daemon=True)
    handler.start()
    until(lambda: box.inbox._busy)
    assert handler.is_alive()
    box.spool.may.set()
    handler.join(20)
    assert kinds(spool) == [("message", "A")]


def test_no_more_than_64_wait(spool: Spool) -> None:
    """The next one blocks the library's handler, and so its queue fills."""
    box = Box(spool)
    box.spool.may.clear()
    box.inbox.take("Message", a_message("first"))
    until(lambda: box.inbox._busy)
    for number in range(64):
        box.inbox.take("Message", a_message(f"A{number}"))
    handler = threading.Thread(
        target=box.inbox.take, args=("Message", a_message("last")), daemon=True
    )
    handler.start()
    assert len(box.inbox._queue) == 64
    assert handler.is_alive()
    box.spool.may.set()
    handler.join(20)
    assert box.inbox.drain(20)
    assert box.done[-1] == message_key("last")


def test_an_action_waits_for_earlier_events(spool: Spool) -> None:
    """Any action runs once earlier events are stored, and before later ones."""
    box = Box(spool)
    seen: list[list[tuple[str, str]]] = []
    box.spool.may.clear()
    box.inbox.take("Message", a_message("A"))
    box.inbox.run_after(lambda: seen.append(kinds(spool)))
    box.inbox.take("Message", a_message("B"))
    box.spool.may.set()
    assert box.inbox.drain(20)
    assert seen == [[("message", "A")]]
    assert box.done == [message_key("A"), "", message_key("B")]


def test_an_event_without_content_leaves_its_id(spool: Spool) -> None:
    """Only messages of others: our own are never searched for."""
    box = Box(spool)
    box.inbox.take("Message", a_message("A", ""))
    box.inbox.take("Message", a_message("B", "", from_me=True))
    assert box.inbox.drain(20)
    assert kinds(spool) == []
    assert spool.has_ids(["A", "B"]) == {"A"}
    assert box.done == [message_key("A"), message_key("B")]


@pytest.mark.parametrize("name", ["HistorySync", "UndecryptableMessage"])
def test_events_that_are_stored_raw(spool: Spool, name: str) -> None:
    """With the reason of the failed translation."""
    box = Box(spool)
    box.inbox.take(name, b"bytes")
    assert box.inbox.drain(20)
    (row,) = spool.untranslated_rows(10)
    assert (row.kind, row.raw) == (name.lower(), b"bytes")
    assert row.reason


def test_unreadable_events_are_stored(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are not a message are stored unchanged."""
    box = Box(spool)
    box.inbox.take("Message", b"\xff\xff\xff")
    assert box.inbox.drain(20)
    (row,) = spool.untranslated_rows(10)
    assert row.raw == b"\xff\xff\xff"
    assert "cannot be parsed" in row.reason
    assert "a Message cannot be parsed" in caplog.text


def test_a_disk_that_refuses_is_tried_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes; it is reported once for each reason, and when it is over."""
    monkeypatch.setattr(module, "_DISK_RETRY", 0.001)
    box = Box(spool)
    box.spool.errors += [StateUnwritable("full"), StateUnwritable("full"), StateUnwritable("gone")]
    box.inbox.take("Message", a_message("A"))
    assert box.inbox.drain(20)
    first, second, last = box.held
    assert "full" in first
    assert "gone" in second
    assert last == ""
    assert kinds(spool) == [("message", "A")]


def test_any_other_error_ends_the_worker(spool: Spool) -> None:
    """Nothing is reported as stored, and the owner of the inbox is notified."""
    box = Box(spool)
    error = Damaged("spool.db is damaged")
    box.spool.errors.append(error)
    box.inbox.take("Message", a_message("A"))
    until(lambda: box.failed)
    assert box.failed == [error]
    assert box.done == []
