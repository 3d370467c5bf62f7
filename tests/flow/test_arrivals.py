"""From the wire to the views, in one piece: whatever a stranger sends is shown, or quarantined and counted.

Bytes of the library go through translation, spool, plan and store to every view of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.protobufs import HistorySync, Message, pb
from tests.support.random_protobufs import NO_TEXTS, field, nested, wire_bytes
from tests.support.small_world import no_gap
from tests.support.waiting import until
from tests.worker.test_translation import CUT, sealed, with_body
from wad.api.legacy.conversations import message_document
from wad.api.views.message import MessageView, message_view, whole_view
from wad.core.brief import brief_thread
from wad.core.content import MessageKind
from wad.core.message import Message as Stored
from wad.flow.event_bus import Bus
from wad.flow.inbound.pipeline import Inbound
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.state.spool import Spool
from wad.store.app_documents import thread_fields
from wad.store.sqlite.rows import THREAD_COLUMNS, thread_from
from wad.store.sqlite.store import SqliteStore
from wad.worker.message_secrets import MessageSecrets
from wad.worker.translate.events import TRANSLATORS
from wad.worker.translation import OpeningKeys, translated
from wadctl.message_tables import line
from wadctl.replies import decoded

ACCOUNT = "acc-1"
KEYS = OpeningKeys(sealed, MessageSecrets())


_PLAIN = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Pipeline:
    """A spool, a store and everything between them; it stays for all examples of a test."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "spool.db"
        self._runner = asyncio.Runner()
        self.store = self.run(SqliteStore.open(directory / "wad.db"))
        self.spool = Spool.open(self.path)
        self.inbound = self.run(self._inbound())
        self.damaged: list[Exception] = []

    async def _inbound(self) -> Inbound:
        clock = SystemClock()
        return Inbound(
            ACCOUNT, lambda: Spool.open(self.path), self.store, Bus(clock), clock, batch=100, retention_days=1,
            on_recorded=lambda messages: None, on_answer=lambda answer: None,
            on_damaged=lambda error: self.damaged.append(error), on_replaced=lambda: False, on_gap=no_gap,
        )  # fmt: skip

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self.inbound.close())
        self.spool.close()
        self.run(self.store.close())
        self._runner.close()

    def take(self, name: str, raw: bytes) -> list[Stored]:
        """An event arrives, and is recorded; returns all messages that are stored then."""
        before = self.inbound.untranslated
        rows = translated(name, raw, KEYS, 1_769_000_001_000).rows
        self.spool.take(rows)
        self.run(self._record())
        assert not self.damaged
        assert self.inbound.set_aside == 0, self.spool.kept(1)
        kept = [row for row in rows if row.event is None and row.kind != "heard"]
        assert self.inbound.untranslated <= before + len(kept)
        if kept:
            assert self.inbound.untranslated > 0
        found: list[Stored] = self.run(self._stored())
        return found

    async def _record(self) -> None:
        while await self.inbound._record_batch():
            pass

    async def _stored(self) -> list[Stored]:
        found = []
        for thread in await self.store.threads(ACCOUNT, limit=1000):
            thread_fields(thread)
            msgspec.json.encode(brief_thread(thread))
            found += await self.store.messages(thread.id, limit=1000)
        return found


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    """A new pipeline."""
    with closing(Pipeline(tmp_path)) as pipeline:
        yield pipeline


def look(message: Stored) -> None:
    """Every view shows it: MessagePack, JSON, the apps' document, a line of text."""
    for view in (message_view(message), whole_view(message)):
        shape = msgspec.to_builtins(view)
        msgpack.packb(shape)
        msgspec.json.encode(view)
        line(decoded(MessageView, shape)).encode()
    msgspec.json.encode(message_document(message))


FIELDS = [one.name for one in Message.DESCRIPTOR.fields]
_number = iter(range(1 << 40))


@_PLAIN
@given(st.sampled_from(FIELDS), st.data())
def test_any_message_is_shown_or_quarantined(
    pipeline: Pipeline, name: str, data: st.DataObject
) -> None:
    """In its thread, translated or as unknown; it delays nothing."""
    body = data.draw(wire_bytes(Message, always=(name,), depth=4))
    ident = f"ID{next(_number)}"
    found = pipeline.take("Message", with_body(body, ident=ident.encode()))
    for message in found:
        if message.wa_id == ident:
            look(message)
    rows = translated("Message", with_body(body, ident=ident.encode()), KEYS, 1).rows
    if rows and rows[0].event is None and rows[0].kind != "heard":
        assert [m.content.kind for m in found if m.wa_id == ident] == [MessageKind.UNKNOWN]


@pytest.mark.parametrize("name", sorted(TRANSLATORS))
@settings(_PLAIN, max_examples=25)
@given(data=st.data())
def test_any_event_is_recorded_or_quarantined(
    pipeline: Pipeline, name: str, data: st.DataObject
) -> None:
    """Whatever its envelope contains."""
    for message in pipeline.take(
        name, data.draw(wire_bytes(getattr(pb, name), always=("Message",)))
    ):
        look(message)


@_PLAIN
@given(wire_bytes(HistorySync, always=("conversations",), depth=6))
def test_any_history_is_recorded_or_quarantined(pipeline: Pipeline, data: bytes) -> None:
    """Item by item."""
    for message in pipeline.take("HistorySync", field(1, data)):
        look(message)


@pytest.mark.parametrize(
    "body",
    [
        field(1, CUT),
        field(1, b"z" * 6_000_000),
        nested(field(1, b"deep"), (40, 1), 60),
        field(49, field(2, b"Q") + b"".join(field(3, field(1, b"%d" % n)) for n in range(20_000))),
        field(6, field(1, b"x") + field(17, b"".join(field(15, b"%d@lid" % n) for n in range(50_000)))),
        field(9, b"".join(field(2, field(1, b"Ann") + field(16, b"v" * 60_000)) for _ in range(200))),
    ],
    ids=["no text", "6 MB", "depth", "options", "mentions", "contacts"],
)  # fmt: skip
def test_a_hostile_message_is_shown(pipeline: Pipeline, body: bytes) -> None:
    """Later messages are shown as well."""
    pipeline.take("Message", with_body(body, ident=b"HOSTILE"))
    found = pipeline.take("Message", with_body(field(1, b"after"), ident=b"AFTER"))
    assert {message.wa_id for message in found} == {"HOSTILE", "AFTER"}
    for message in found:
        look(message)


@pytest.mark.parametrize("subject", [*NO_TEXTS, b"z" * 6_000_000, b"\xff" * 6_000_000])
def test_a_hostile_subject_is_shown(pipeline: Pipeline, subject: bytes) -> None:
    """Of a group that is there; the lists stay short."""
    group = field(1, b"1-2") + field(2, 0) + field(3, 0) + field(4, 0) + field(5, b"g.us")
    name = field(1, subject) + field(2, 1_769_000_000) + field(3, group)
    ends = b"".join(field(number, subject[:100]) for number in (2, 14, 15, 16))
    pipeline.take(
        "GroupInfoEvent", field(1, group) + field(4, 1_769_000_000) + field(5, name) + ends
    )
    query = f"SELECT {THREAD_COLUMNS} FROM threads"  # a thread without messages is not listed yet
    (row,) = pipeline.run(pipeline.store._read(lambda db: db.execute(query).fetchall()))
    thread = thread_from(row)
    assert thread.name
    assert len(brief_thread(thread).name) <= 300
    assert pipeline.inbound.untranslated == 0


def test_endless_edits_fill_neither_store_nor_page(pipeline: Pipeline) -> None:
    """The first version and the newest stay."""
    pipeline.take("Message", with_body(field(1, b"first"), ident=b"M"))
    for number in range(150):
        key = field(1, field(3, b"M"))
        text = b"%d" % number + b"z" * 80_000
        edit = field(12, key + field(2, 14) + field(14, field(1, text)) + field(15, number + 1))
        pipeline.take("Message", with_body(edit, ident=b"E%d" % number))
    (message,) = pipeline.run(pipeline._stored())
    assert message.content.text.startswith("149z")
    assert message.earlier[0].content.text == "first"
    assert len(message.earlier) == 50
    look(message)


async def test_a_hostile_row_neither_ends_nor_blocks_the_loop(tmp_path: Path) -> None:
    """The supervisor counts no failure."""
    loops = Loops(SystemClock())
    store = await SqliteStore.open(tmp_path / "wad.db")
    clock = SystemClock()
    inbound = Inbound(
        ACCOUNT, lambda: Spool.open(tmp_path / "spool.db"), store, Bus(clock), clock, batch=10, retention_days=1,
        on_recorded=lambda messages: None, on_answer=lambda answer: None, on_damaged=lambda error: None,
        on_replaced=lambda: False, on_gap=no_gap,
    )  # fmt: skip
    with closing(Spool.open(tmp_path / "spool.db")) as spool:
        spool.append(received_ms=1, kind="message", wa_id="A", raw=b"", event=b"\xc1")
    task = asyncio.create_task(loops.keep("inbound", inbound.run))
    await until(lambda: inbound.set_aside == 1, "the row")
    assert loops.failing == []
    assert (loops.errors, loops.faults) == (0, 0)
    task.cancel()
    await asyncio.wait([task])
    await inbound.close()
    await store.close()
