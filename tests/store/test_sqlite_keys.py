"""Where a message lies, by its ids: as a search of all rows would say, wherever its keys have moved to."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.store import StoreContract
from tests.contracts.world import ACC, Fresh, arrival, wa_id
from wad.core.change import Change, PutMark
from wad.core.errors import InvalidData
from wad.store import Store
from wad.store.sqlite import keys
from wad.store.sqlite.keys import WritingConnection, put_keys, put_wa_id, row_of, rows_of
from wad.store.sqlite.schema import STEPS
from wad.store.sqlite.store import SqliteStore

ACCOUNTS = ("one", "two")
WA_IDS = ("", "A", "B", "C", "D")


@contextmanager
def small_tables(block: int = 1, parts: int = 2, handed_on: int = 1) -> Iterator[None]:
    """So few messages are packed at once, and it takes so few blocks to hand on everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_BLOCK", block)
        patch.setattr(keys, "_PARTS", parts)
        patch.setattr(keys, "_HANDED_ON", handed_on)
        yield


class TestStoreWhoseKeysMove(StoreContract):
    """The whole contract, while each message that is stored moves the keys of others."""

    @pytest.fixture
    def fresh(self, tmp_path: Path) -> Iterator[Fresh]:
        """Each store in a file of its own."""
        numbers = itertools.count()

        @asynccontextmanager
        async def one() -> AsyncIterator[Store]:
            store = await SqliteStore.open(tmp_path / f"{next(numbers)}.db")
            try:
                yield store
            finally:
                await store.close()

        with small_tables():
            yield one


# --- the keys alone, beside a plain model -----------------------------------------------------------


@contextmanager
def a_database(kind: type[sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
    """An empty store's tables, in memory."""
    with closing(kind(":memory:", isolation_level=None)) as db:
        for step in STEPS:
            db.executescript(step)
        yield db


class World:
    """Rows of messages with their keys, and the same rows in a dictionary."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.rows: dict[int, tuple[str, str, str]] = {}
        self.idents: list[str] = []
        self.begin()

    def begin(self) -> None:
        """A transaction, as the store begins one."""
        self.db.execute("BEGIN")
        if isinstance(self.db, WritingConnection):
            self.db.remembered.refresh(self.db)
        self.before = dict(self.rows)

    def end(self, how: str) -> None:
        """The transaction ends, and another one begins."""
        self.db.execute(how)
        if how == "ROLLBACK":
            self.rows = self.before
        self.begin()

    def put(self, ident: str, account: str, wa_id: str) -> None:
        """A message is stored."""
        number = self.db.execute(
            "INSERT INTO messages (id, account, thread, chat, sender, from_me, at_ms, seen, wa_id, status, push_name,"
            " client_id, stable_key, fingerprint, kind, content) VALUES (?,?,'','','',0,0,0,?,'','','','','','','')",
            (ident, account, wa_id),
        ).lastrowid
        assert number is not None
        put_keys(self.db, number, ident, account, wa_id)
        self.rows[number] = (ident, account, wa_id)
        self.idents.append(ident)

    def name(self, number: int, wa_id: str) -> None:
        """A message of ours gets its WhatsApp id, or another one."""
        ident, account, _ = self.rows[number]
        self.db.execute("UPDATE messages SET wa_id = ? WHERE number = ?", (wa_id, number))
        put_wa_id(self.db, number, account, wa_id)
        self.rows[number] = (ident, account, wa_id)

    def drop(self, number: int) -> None:
        """A message goes."""
        self.db.execute("DELETE FROM messages WHERE number = ?", (number,))
        del self.rows[number]

    def compare(self) -> None:
        """Everything is found where it lies, and nothing else is."""
        for ident in self.idents:
            here = [number for number, row in self.rows.items() if row[0] == ident]
            assert row_of(self.db, ident) == (here[0] if here else None)
        for account, told in itertools.product(ACCOUNTS, WA_IDS):
            here = [number for number, row in self.rows.items() if row[1:] == (account, told)]
            assert rows_of(self.db, account, told) == (here if told else [])


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "put", "name", "drop", "COMMIT", "ROLLBACK"]),
        st.sampled_from(ACCOUNTS),
        st.sampled_from(WA_IDS),
        st.integers(0, 99),
    ),
    max_size=60,
)


@given(
    acts=ACTS,
    block=st.integers(1, 4),
    parts=st.integers(1, 4),
    hashes=st.sampled_from([b"\0", b"\3", b"\xff"]),
    kind=st.sampled_from([sqlite3.Connection, WritingConnection]),
)
def test_what_the_keys_say_is_what_a_search_says(
    acts: list[tuple[str, str, str, int]],
    block: int,
    parts: int,
    hashes: bytes,
    kind: type[sqlite3.Connection],
) -> None:
    """Storing, naming, removing and taking back in any order; any sizes, and hashes that many ids share."""
    whole = keys._hash

    def fewer(name: str, kind: int) -> bytes:
        first, *rest = whole(name, kind)
        return bytes((first, *(byte & hashes[0] for byte in rest)))

    with a_database(kind) as db, small_tables(block, parts), pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_hash", fewer)
        world = World(db)
        for number, (act, account, told, which) in enumerate(acts):
            there = sorted(world.rows)
            if act == "put":
                world.put(f"id{number}", account, told)
            elif act in ("COMMIT", "ROLLBACK"):
                world.end(act)
            elif there and act == "name":
                world.name(there[which % len(there)], told)
            elif there:
                world.drop(there[which % len(there)])
            world.compare()


def sizes(db: sqlite3.Connection) -> tuple[int, int]:
    """How many keys each table has; a key takes seven bytes."""
    one, other = (
        db.execute(f"SELECT coalesce(sum(length(keys)), 0) FROM {table}").fetchone()[0] // 7
        for table in ("keys_recent", "keys_old")
    )
    return one, other


def test_recent_keys_stay_few() -> None:
    """Two for a message, as many as come in about half the time in which all are handed on; the others are old."""
    with a_database(WritingConnection) as db, small_tables(block=64, parts=16):
        world = World(db)
        for number in range(64 * 100):
            world.put(f"id{number}", "one", f"wa{number}")
        recent, old = sizes(db)
        assert recent + old == 2 * 64 * 100
        assert 64 * 16 / 2 < recent < 2 * 64 * 16


def test_no_message_waits_until_all_have_moved() -> None:
    """A block hands on about as many keys as it brings."""
    with a_database(WritingConnection) as db, small_tables(block=64, parts=16):
        world = World(db)
        moved = []
        for number in range(64 * 100):
            before = sizes(db)[1] if number % 64 == 63 else 0
            world.put(f"id{number}", "one", f"wa{number}")
            if number % 64 == 63:
                moved.append(sizes(db)[1] - before)
        assert max(moved) < 3 * 2 * 64


# --- in the store -----------------------------------------------------------------------------------


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    """An open store."""
    store = await SqliteStore.open(path)
    try:
        yield store
    finally:
        await store.close()


def many(first: int, count: int) -> list[Change]:
    """The changes of so many messages."""
    return [change for number in range(first, first + count) for change in arrival(number)]


async def test_messages_told_again_are_known_at_any_age(tmp_path: Path) -> None:
    """In the newest rows, recent or old, with the sizes as they are; after opening again, too."""
    changes = many(0, 3000)
    async with opened(tmp_path / "wad.db") as store:
        assert len((await store.record(ACC, changes)).new) == 3000
        assert (await store.record(ACC, changes)).known == 3000
    async with opened(tmp_path / "wad.db") as store:
        assert (await store.record(ACC, changes)).known == 3000
        assert (await store.totals(ACC)).messages == 3000
        everything = {wa_id(number) for number in range(3000)}
        assert await store.has_messages(ACC, [*everything, "other"]) == everything


@pytest.mark.parametrize("count", [10, 2000])
async def test_what_another_process_stored_is_known(tmp_path: Path, count: int) -> None:
    """`wadctl store copy` writes beside the daemon: one message is stored once by the two of them."""
    async with opened(tmp_path / "wad.db") as one, opened(tmp_path / "wad.db") as other:
        await one.record(ACC, many(0, count))
        assert (await other.record(ACC, many(0, 2 * count))).known == count
        assert (await one.record(ACC, many(0, 3 * count))).known == 2 * count
        assert (await one.totals(ACC)).messages == 3 * count


async def test_a_batch_that_failed_is_stored_when_it_is_told_again(tmp_path: Path) -> None:
    """What was packed in a transaction that was taken back is new the next time, and known after that."""
    broken = PutMark("", wa_id(1), None, "", 0)  # type: ignore[arg-type]
    async with opened(tmp_path / "wad.db") as store:
        await store.record(ACC, many(0, 500))
        with pytest.raises(InvalidData):
            await store.record(ACC, [*many(500, 1000), broken])
        again = await store.record(ACC, many(0, 1500))
        assert (again.known, len(again.new)) == (500, 1000)
        assert (await store.record(ACC, many(0, 1500))).known == 1500
