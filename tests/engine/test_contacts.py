"""The phone's names for its contacts: read from the library's table, reported once, shown in the thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.random_protobufs import NO_TEXTS
from tests.support.real_world import a_real_world
from tests.support.small_world import ShiftedClock
from wad.core.event import ChatReceived, decode
from wad.core.jid import Jid
from wad.engine import session_db, supervision
from wad.engine.contacts import AddressBook
from wad.lib.clock import SystemClock
from wad.state.account_dir import AccountDir
from wad.state.spool import Spool

BOB = "15550000002@s.whatsapp.net"


class Phone:
    """A session's database with the table of contacts, and a spool."""

    def __init__(self, directory: Path) -> None:
        self.account_dir = AccountDir(directory)
        self.db = sqlite3.connect(self.account_dir.session_db, isolation_level=None)
        self.db.execute(
            "CREATE TABLE whatsmeow_contacts (their_jid TEXT PRIMARY KEY, first_name TEXT, full_name TEXT)"
        )

    def save(self, address: str, full: str | None, first: str | None = None) -> None:
        """The library has read these names in the app state."""
        self.db.execute(
            "INSERT OR REPLACE INTO whatsmeow_contacts VALUES (?,?,?)", (address, first, full)
        )

    def book(self) -> AddressBook:
        """The address book of a worker that starts."""
        return AddressBook(self.account_dir, SystemClock())

    def reported(self) -> list[tuple[str, str]]:
        """Address and name of each event so far."""
        with closing(Spool.open(self.account_dir.spool_db)) as spool:
            rows = [row.event for row in spool.after(0, 1000)]
        events = [decode(event) for event in rows if event is not None]
        assert all(isinstance(event, ChatReceived) and event.name_ms for event in events)
        return [(str(e.chat), e.name) for e in events if isinstance(e, ChatReceived)]


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    """An empty address book."""
    phone = Phone(tmp_path)
    yield phone
    phone.db.close()


def test_a_name_is_reported_once(phone: Phone) -> None:
    """Also for another worker, with another handle of the spool."""
    phone.save(BOB, "Bob the neighbour")
    book = phone.book()
    assert book.check() == 1
    assert book.check() is None
    assert phone.book().check() is None
    assert phone.reported() == [(BOB, "Bob the neighbour")]


def test_only_a_changed_name_is_reported(phone: Phone) -> None:
    """The unchanged ones are not."""
    phone.save(BOB, "Bob")
    phone.save("9@lid", "Ann")
    book = phone.book()
    assert book.check() == 2
    phone.save(BOB, "Robert")
    assert book.check() == 3
    assert phone.reported()[-1] == (BOB, "Robert")


def test_an_unchanged_database_is_not_opened(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of idle accounts are checked all the time; a database that was just written is checked once more."""
    opened: list[Path] = []
    read = session_db.saved_names

    def reading(path: Path) -> dict[str, str]:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(session_db, "saved_names", reading)
    clock = ShiftedClock()
    book = AddressBook(phone.account_dir, clock)
    phone.save(BOB, "Bob")
    assert book.check() == 1
    assert book.check() is None
    assert len(opened) == 2
    clock.ahead_ms = 60_000
    for _ in range(3):
        assert book.check() is None
    assert len(opened) == 3
    phone.save(BOB, "Robert")
    assert book.check() == 2
    assert phone.reported()[-1] == (BOB, "Robert")


def test_a_first_name_alone(phone: Phone) -> None:
    """It is used if the phone has no other name."""
    phone.save(BOB, None, "Bob")
    phone.book().check()
    assert phone.reported() == [(BOB, "Bob")]


def test_addresses_that_are_not_persons_are_skipped(phone: Phone) -> None:
    """Like contacts without a name in the phone."""
    for address in ("1-2@g.us", "no address", ""):
        phone.save(address, "Name")
    phone.save(BOB, "", "")
    assert phone.book().check() is None
    assert phone.reported() == []


def test_before_the_library_has_created_its_tables(tmp_path: Path) -> None:
    """Nothing is reported, and no spool is created."""
    account_dir = AccountDir(tmp_path)
    assert AddressBook(account_dir, SystemClock()).check() is None
    assert not account_dir.spool_db.exists()


@given(st.lists(st.dictionaries(st.sampled_from("1234"), st.sampled_from("abc")), max_size=8))
def test_the_newest_name_wins(
    tmp_path_factory: pytest.TempPathFactory, books: list[dict[str, str]]
) -> None:
    """Whatever changes between two checks, by any worker: the newest event has the newest name."""
    phone = Phone(tmp_path_factory.mktemp("book"))
    book = phone.book()
    for number, names in enumerate(books):
        for user, name in names.items():
            phone.save(f"{user}@lid", name)
        if number % 3 == 2:
            book = phone.book()
        book.check()
    reported = phone.reported()
    rows = phone.db.execute("SELECT their_jid, full_name FROM whatsmeow_contacts").fetchall()
    assert dict(reported) == dict(rows)
    phone.db.close()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([BOB.encode(), b"9@lid", b"9\xff@lid", b"1-2@g.us"])
            | st.binary(max_size=12),
            st.sampled_from(NO_TEXTS) | st.binary(max_size=12),
            st.binary(max_size=12) | st.none(),
        ),
        max_size=8,
    )
)
def test_any_bytes_in_the_book_become_rows_that_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bytes, bytes, bytes | None]]
) -> None:
    """Names of strangers and invalid addresses arrive as the phone has them."""
    phone = Phone(tmp_path_factory.mktemp("book"))
    phone.db.executemany(
        "INSERT OR REPLACE INTO whatsmeow_contacts (their_jid, full_name, first_name)"
        " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))",
        rows,
    )
    book = phone.book()
    book.check()
    for address, name in phone.reported():
        assert Jid.parse(address).is_person
        name.encode()
    assert book.check() is None
    phone.db.close()


async def test_the_phones_name_for_a_contact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It arrives as app state, names the thread, and changes with the phone."""
    monkeypatch.setattr(supervision, "_NAMES_EVERY", 0.1)
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        await line.bob.send_text(line.whatsapp, "hello")
        for name in ("Bob the neighbour", "Bob of the bakery"):
            await line.whatsapp.phone.share_app_state(contacts={line.bob.pn: name})
            async with asyncio.timeout(30):
                while [
                    thread.name for thread in await line.store.threads(line.wad.id, limit=9)
                ] != [name]:
                    await asyncio.sleep(0.02)
