"""Detection of lost messages: the library's list against the spool."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.protobufs import pb
from wad.core.event import Content, MessageKind, MessageReceived, decode
from wad.core.jid import Jid
from wad.engine.lost_messages import Comparison, ids_of_history
from wad.lib.clock import SystemClock
from wad.state.account_dir import AccountDir
from wad.state.spool import Arrival, Spool

BOB = "9@lid"


class Session:
    """A session's database as the library fills it, and a spool."""

    def __init__(self, directory: Path) -> None:
        self.account_dir = AccountDir(directory)
        self.db = sqlite3.connect(self.account_dir.session_db, isolation_level=None)
        self.db.execute(
            "CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT, noise_key BLOB)"
        )
        self.db.execute(
            "INSERT INTO whatsmeow_device VALUES ('1:5@s.whatsapp.net', '2:5@lid', '', x'01')"
        )
        self.db.execute(
            "CREATE TABLE whatsmeow_message_secrets (chat_jid TEXT, sender_jid TEXT, message_id TEXT)"
        )

    def listed(self, *idents: str, sender: str = BOB, chat: str = BOB) -> None:
        """The library has decrypted these."""
        rows = [(chat, sender, ident) for ident in idents]
        self.db.executemany("INSERT INTO whatsmeow_message_secrets VALUES (?,?,?)", rows)

    def stored(self, *arrivals: Arrival) -> None:
        """The worker has stored these."""
        with closing(Spool.open(self.account_dir.spool_db)) as spool:
            spool.take(arrivals)

    def comparison(self) -> Comparison:
        """A worker starts."""
        return Comparison(self.account_dir, SystemClock())

    def lost(self) -> list[str]:
        """The rows of lost messages."""
        with closing(Spool.open(self.account_dir.spool_db)) as spool:
            return [row.wa_id for row in spool.after(0, 1000) if row.kind == "lost"]

    def prune(self) -> None:
        """Everything stored is recorded and old."""
        with closing(Spool.open(self.account_dir.spool_db)) as spool:
            spool.prune(spool.last_seq(), 1 << 60, 1000)


def a_row(ident: str) -> Arrival:
    """A stored message."""
    return Arrival(1, "message", ident, b"raw", b"event")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session that wad has had from its first message on."""
    session = Session(tmp_path)
    session.comparison()
    yield session
    session.db.close()


def test_a_listed_message_that_is_not_stored_was_lost(session: Session) -> None:
    """Its row has its sender, chat and id, and it is found once."""
    session.listed("A", "B", "C", chat="5-6@g.us")
    session.stored(a_row("A"), a_row("C"))
    assert session.comparison().run() == 3
    assert session.lost() == ["B"]
    with closing(Spool.open(session.account_dir.spool_db)) as spool:
        (row,) = [row for row in spool.after(0, 10) if row.kind == "lost"]
    assert row.event is not None
    event = decode(row.event)
    assert isinstance(event, MessageReceived)
    chat, bob = Jid.parse("5-6@g.us"), Jid.parse(BOB)
    assert (event.id, event.chat, event.sender) == ("B", chat, bob)
    assert event.content == Content(MessageKind.LOST)
    assert event.at_ms == row.received_ms
    assert session.comparison().run() is None
    assert session.lost() == ["B"]


def test_own_messages_are_not_lost(session: Session) -> None:
    """It is listed, too, and never received."""
    session.listed("A", sender="1@s.whatsapp.net")
    session.listed("B", sender="2@lid")
    assert session.comparison().run() is None


def test_events_without_content_are_not_lost(session: Session) -> None:
    """It arrived."""
    session.listed("A")
    session.stored(Arrival(0, "heard", "A"))
    assert session.comparison().run() is None


def test_messages_that_arrive_meanwhile_wait_for_the_next_run(session: Session) -> None:
    """It may still be in the library's queue."""
    comparison = session.comparison()
    session.listed("A")
    assert comparison.run() is None
    session.listed("B")
    assert comparison.run() == 1
    assert session.lost() == ["A"]


def test_a_session_that_is_older_than_the_spool(tmp_path: Path) -> None:
    """Nothing is known about earlier messages."""
    session = Session(tmp_path)
    session.listed("OLD")
    assert session.comparison().run() is None
    session.listed("A")
    assert session.comparison().run() == 1
    assert session.lost() == ["A"]
    session.db.close()


def test_rows_that_were_pruned_were_not_lost(session: Session) -> None:
    """The list is permanent, the spool is not."""
    session.listed("A", "B")
    session.stored(a_row("A"), a_row("B"))
    session.prune()
    assert session.comparison().run() is None
    session.listed("C")
    assert session.comparison().run() is not None
    assert session.lost() == ["C"]


def test_a_new_session_begins_a_new_list(session: Session) -> None:
    """After a logout the rows are numbered from 1 again."""
    session.listed(*(f"OLD{n}" for n in range(9)))
    session.stored(*(a_row(f"OLD{n}") for n in range(9)))
    session.comparison().run()
    session.db.execute("DELETE FROM whatsmeow_message_secrets")
    comparison = session.comparison()
    session.listed("A")
    assert comparison.run() is None
    assert comparison.run() == 10
    assert session.lost() == ["A"]


def a_history(*idents: str) -> bytes:
    """A history sync as the library hands it over."""
    sync = pb.HistorySync()
    for ident in idents:
        conversation = sync.Data.conversations.add(ID=BOB)
        message = conversation.messages.add().message
        message.key.ID, message.key.remoteJID = ident, BOB
        message.message.conversation = "an old text"
        message.messageTimestamp = 1_600_000_000
    sync.Data.syncType = 3
    data: bytes = sync.SerializeToString()
    return data


def test_the_messages_of_a_history_sync_are_not_lost(session: Session) -> None:
    """They are listed although they are never handed over one by one."""
    session.listed("H1", "A", "H2")
    session.stored(Arrival(1, "historysync", "", a_history("H1", "H2")))
    assert session.comparison().run() == 2
    assert session.lost() == ["A"]


def test_a_history_sync_that_was_itself_lost(session: Session) -> None:
    """More than can be lost otherwise: thousands of messages are not reported."""
    session.listed(*(f"H{number}" for number in range(200)))
    assert session.comparison().run() is None
    assert session.lost() == []


@given(st.lists(st.text("ABCDEF0123456789", min_size=1, max_size=40), max_size=20))
def test_the_ids_in_a_history_sync(idents: list[str]) -> None:
    """They are found without creating objects."""
    assert ids_of_history(a_history(*idents)) == set(idents)


@given(st.binary(max_size=300))
def test_bytes_that_are_not_a_history_sync(raw: bytes) -> None:
    """Nothing is raised, whatever the spool contains."""
    ids_of_history(raw)
