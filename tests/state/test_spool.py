"""The spool: acknowledged events survive every kill, and damage affects only the damaged rows."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.damage import DAMAGES, damage
from tests.support.disks import no_more_than
from wad.core.errors import Damaged, InvalidData, StateUnwritable, Unavailable
from wad.core.event import Content, MessageKind, MessageReceived, encode
from wad.core.jid import Jid
from wad.state.spool import (
    Arrival,
    ComparedUpTo,
    QuarantinedRow,
    Salvaged,
    Spool,
    SpoolBacklog,
    SpoolRow,
)

ANN = Jid.parse("40700000001@s.whatsapp.net")


def event(number: int) -> bytes:
    """A translation as it is stored in a spool."""
    content = Content(MessageKind.TEXT, f"text {number}")
    return encode(MessageReceived(f"ID{number}", ANN, ANN, number, content))


def put(spool: Spool, number: int, *, untranslated: bool = False, size: int = 300) -> int:
    """Append event `number`, received at millisecond `number`."""
    return spool.append(
        received_ms=number,
        kind="message",
        wa_id=f"ID{number}",
        raw=bytes([number % 256]) * size,
        event=None if untranslated else event(number),
        reason="too strange" if untranslated else "",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a spool."""
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    """An empty spool."""
    with closing(Spool.open(path)) as spool:
        yield spool


# --- appending and reading ------------------------------------------------------------------------


def test_rows_come_back_in_order(spool: Spool) -> None:
    """What was appended is read after its number, without the raw bytes."""
    numbers = [put(spool, number) for number in range(5)]
    assert numbers == sorted(set(numbers))
    rows = spool.after(numbers[1], 2)
    assert rows == [
        SpoolRow(numbers[2], 2, "message", "ID2", b"", event(2), ""),
        SpoolRow(numbers[3], 3, "message", "ID3", b"", event(3), ""),
    ]
    assert spool.after(numbers[-1], 10) == []


def test_an_untranslated_row_is_kept_whole(spool: Spool) -> None:
    """With its raw bytes and the reason, and counted."""
    put(spool, 1)
    seqs = [put(spool, number, untranslated=True) for number in (2, 3)]
    assert spool.counts() == (2, 0)
    first, second = spool.untranslated_rows(10)
    assert first == SpoolRow(seqs[0], 2, "message", "ID2", b"\2" * 300, None, "too strange")
    assert spool.untranslated_rows(10, after=first.seq) == [second]
    assert spool.untranslated_rows(1) == [first]


def test_salvaged_rows_and_how_far_that_got_are_one_transaction(spool: Spool) -> None:
    """All of it or nothing, each damaged file by itself."""
    rows = [(n, "message", f"ID{n}", b"raw", event(n), "") for n in range(3)]
    spool.append_salvaged(rows, "old", Salvaged(3, complete=False, seq=7))
    bad = [*rows, (None, "message", "", b"", None, "")]
    with pytest.raises(InvalidData):
        spool.append_salvaged(bad, "old", Salvaged(7, complete=False, seq=11))  # type: ignore[arg-type]
    assert spool.backlog(0).rows == 3
    assert spool.salvaged("old") == Salvaged(3, complete=False, seq=7)
    assert spool.salvaged("older") == Salvaged()


def test_an_empty_spool_has_no_rows(spool: Spool) -> None:
    """No rows, no oldest one: unknown is None, not zero."""
    assert spool.last_seq() == 0
    assert spool.backlog(0) == SpoolBacklog(0, None)
    assert spool.after(0, 10) == []
    assert spool.counts() == (0, 0)


def test_the_backlog_is_after_the_cursor(spool: Spool) -> None:
    """Rows and the time of the oldest."""
    seqs = [put(spool, number) for number in range(10, 15)]
    assert spool.backlog(0) == SpoolBacklog(5, 10)
    assert spool.backlog(seqs[2]) == SpoolBacklog(2, 13)
    assert spool.backlog(spool.last_seq()) == SpoolBacklog(0, None)


def test_which_ids_lie_in_the_spool(spool: Spool) -> None:
    """Only the requested ones; rows without an id do not count."""
    put(spool, 1)
    spool.append(received_ms=1, kind="receipt", wa_id="", raw=b"", event=None)
    assert spool.has_ids(["ID1", "ID2", ""]) == {"ID1"}
    assert spool.has_ids([]) == set()


# --- what a worker takes --------------------------------------------------------------------------


def arrival(number: int, **changes: object) -> Arrival:
    """Message `number` on its way in."""
    fields = {"event": event(number), "raw": b"raw %d" % number, **changes}
    return Arrival(number, "message", f"ID{number}", **fields)  # type: ignore[arg-type]


def test_a_batch_is_stored_in_order(spool: Spool) -> None:
    """In one transaction, which returns the newest row."""
    assert spool.take(arrival(number) for number in (3, 1, 2)) == 3
    assert [row.wa_id for row in spool.after(0, 10)] == ["ID3", "ID1", "ID2"]


@pytest.mark.parametrize(
    ("again", "rows"),
    [
        (arrival(1), 1),
        (arrival(1, raw=b"other bytes, the same message"), 1),
        (arrival(1, event=None, reason="not translated this time"), 1),
        (arrival(1, raw=b"another", event=event(2)), 2),
        (Arrival(1, "receipt", "ID1", b"raw 1", event(1)), 2),
        (Arrival(1, "message", "", b"raw 1", event(1)), 2),
    ],
    ids=["same", "bytes", "translation", "another message", "kind", "no id"],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_repeated_event_is_stored_once(
    spool: Spool, again: Arrival, rows: int, together: bool
) -> None:
    """Same id and kind, and the same translation or bytes; also within one batch."""
    if together:
        spool.take([arrival(1), again])
    else:
        spool.take([arrival(1)])
        spool.take([again])
    assert spool.backlog(0).rows == rows


def test_a_batch_that_fails_leaves_nothing(spool: Spool) -> None:
    """The spool stays usable."""
    with pytest.raises(InvalidData):
        spool.take([arrival(1), arrival(2, reason=None)])
    assert spool.take([arrival(1)]) == 1


# --- the comparison with the library's list -------------------------------------------------------


def test_an_id_without_anything_to_keep_is_known(spool: Spool) -> None:
    """It is not a row, but its id is known until the comparison has passed it."""
    spool.take([Arrival(0, "heard", "EMPTY"), arrival(1), Arrival(0, "heard", "EMPTY2")])
    assert spool.has_ids(["EMPTY", "EMPTY2", "ID1", "X"]) == {"EMPTY", "EMPTY2", "ID1"}
    assert spool.backlog(0).rows == 1
    spool.compared(ComparedUpTo(5, 1))
    assert spool.has_ids(["EMPTY", "EMPTY2"]) == {"EMPTY2"}


def test_how_far_the_comparison_got(path: Path) -> None:
    """Never, at first; then it is remembered, together with the rows that it gave."""
    with closing(Spool.open(path)) as spool:
        assert spool.mark() is None
        assert spool.compared(ComparedUpTo(7, 0), [arrival(1)]) == 1
    with closing(Spool.open(path)) as spool:
        assert spool.mark() == ComparedUpTo(7, 0)
        assert spool.has_ids(["ID1"]) == {"ID1"}


def test_whether_the_rows_are_still_there(spool: Spool) -> None:
    """Nothing is known about messages whose rows may be pruned."""
    assert not spool.pruned_after(0)
    seqs = [put(spool, number) for number in range(4)]
    assert not spool.pruned_after(0)
    spool.prune(seqs[1], before_ms=1000, limit=100)
    assert spool.pruned_after(0)
    assert not spool.pruned_after(seqs[1])
    spool.prune(seqs[3], before_ms=1000, limit=100)
    assert spool.pruned_after(seqs[1])
    assert not spool.pruned_after(seqs[3])


def test_the_bytes_of_one_kind(spool: Spool) -> None:
    """After a row, one by one."""
    first = put(spool, 1)
    for number in (2, 3):
        spool.append(received_ms=1, kind="history", wa_id="", raw=bytes([number]), event=None)
    assert list(spool.raw_after(first, "history")) == [b"\2", b"\3"]
    assert list(spool.raw_after(first + 1, "history")) == [b"\3"]


# --- pruning --------------------------------------------------------------------------------------


def test_pruning_keeps_what_is_not_recorded(spool: Spool) -> None:
    """No row after the cursor is deleted, however old."""
    seqs = [put(spool, number) for number in range(5)]
    assert spool.prune(seqs[2], before_ms=1000, limit=100) == 3
    assert [row.seq for row in spool.after(0, 10)] == seqs[3:]


def test_pruning_keeps_what_is_young(spool: Spool) -> None:
    """Only rows received before the time go."""
    seqs = [put(spool, number) for number in range(5)]
    assert spool.prune(seqs[-1], before_ms=2, limit=100) == 2
    assert [row.received_ms for row in spool.after(0, 10)] == [2, 3, 4]


def test_pruning_keeps_what_was_not_translated(spool: Spool) -> None:
    """An operator decides about those."""
    put(spool, 1)
    kept = put(spool, 2, untranslated=True)
    last = put(spool, 3)
    assert spool.prune(last, before_ms=1000, limit=100) == 2
    assert [row.seq for row in spool.after(0, 10)] == [kept]


def test_pruning_stops_at_its_limit(spool: Spool) -> None:
    """So that no single deletion holds up the worker."""
    last = [put(spool, number) for number in range(5)][-1]
    assert [spool.prune(last, 1000, 3), spool.prune(last, 1000, 3)] == [3, 2]


def test_a_number_is_never_used_again(path: Path) -> None:
    """Neither after everything was pruned nor after opening the file again: a cursor stays true."""
    with closing(Spool.open(path)) as spool:
        last = [put(spool, number) for number in range(5)][-1]
        spool.prune(last, 1000, 100)
        assert spool.last_seq() == last
    with closing(Spool.open(path)) as spool:
        assert spool.last_seq() == last
        assert put(spool, 9) > last


# --- the file -------------------------------------------------------------------------------------


def test_a_file_has_one_generation(path: Path) -> None:
    """It is drawn once for each file, and read ever after."""
    names = (f"g{number}" for number in itertools.count())
    with closing(Spool.open(path, lambda: next(names))) as one:
        assert one.generation == "g0"
        with closing(Spool.open(path, lambda: next(names))) as two:
            assert two.generation == "g0"
    with closing(Spool.open(path)) as again:
        assert again.generation == "g0"
    with closing(Spool.open(path.with_name("other.db"))) as other:
        assert len(other.generation) == 16


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    """Mode 0600 whatever the umask, the log included."""
    before = os.umask(0)
    try:
        with closing(Spool.open(path)) as spool:
            put(spool, 1)
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}


def test_every_commit_is_synced(spool: Spool) -> None:
    """A power cut loses nothing: write-ahead log, synchronous=FULL."""
    assert spool._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert spool._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    """It is not damaged, so it must not be set aside."""
    Spool.open(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=77")
    with pytest.raises(
        Unavailable, match=r"newer wad \(schema 77, this version has 4\)"
    ) as refused:
        Spool.open(path)
    assert "install that version" in refused.value.hint


def test_a_directory_that_is_missing_is_unwritable(tmp_path: Path) -> None:
    """The error names the file and the next step."""
    with pytest.raises(StateUnwritable, match=r"nowhere/spool\.db") as refused:
        Spool.open(tmp_path / "nowhere" / "spool.db")
    assert "df -h" in refused.value.hint


def test_a_full_disk_refuses_the_row_and_keeps_the_others(path: Path) -> None:
    """What was acknowledged stays, the spool stays usable, and appending works again when there is room."""
    with closing(Spool.open(path)) as spool:
        put(spool, 0)
        with no_more_than(300_000), pytest.raises(StateUnwritable):
            fill(spool)
        last = spool.last_seq()
        assert [row.seq for row in spool.after(0, 100_000)] == list(range(1, last + 1))
        assert put(spool, 1) == last + 1
    with closing(Spool.open(path)) as spool:
        assert spool.backlog(0).rows == last + 1


def fill(spool: Spool) -> None:
    """Append until something breaks."""
    for number in itertools.count(1):
        put(spool, number, size=5000)


def test_opening_on_a_full_disk_is_an_error(path: Path) -> None:
    """No half-made spool stays in the way."""
    with no_more_than(100), pytest.raises(StateUnwritable):
        Spool.open(path)
    with closing(Spool.open(path)) as spool:
        assert put(spool, 1) == 1


# --- two processes, and death -----------------------------------------------------------------------


def test_reading_and_pruning_go_on_while_another_appends(path: Path) -> None:
    """Two connections, as worker and daemon have: the reader sees every row once, in order."""
    worker, daemon = Spool.open(path), Spool.open(path)
    appending = threading.Thread(target=lambda: [put(worker, n) for n in range(500)])
    appending.start()
    seen: list[int] = []
    while len(seen) < 500:
        rows = daemon.after(seen[-1] if seen else 0, 50)
        seen += [row.seq for row in rows]
        if rows:
            daemon.prune(seen[-1], before_ms=1000, limit=20)
    appending.join()
    assert seen == sorted(set(seen))
    assert len(seen) == 500
    worker.close()
    daemon.close()


def test_many_threads_may_append_at_once(spool: Spool) -> None:
    """One open spool is safe to share."""
    threads = [
        threading.Thread(target=lambda: [put(spool, number) for number in range(50)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool.backlog(0).rows == 400


def test_a_closed_spool_answers_with_an_error(path: Path) -> None:
    """Closing is idempotent; a later call raises an error."""
    spool = Spool.open(path)
    spool.close()
    spool.close()
    with pytest.raises(Unavailable):
        put(spool, 1)


_OPENER = """
import sys
from pathlib import Path
from wad.state.spool import Spool
sys.stdin.readline()
spool = Spool.open(Path(sys.argv[1]))
print(spool.generation, flush=True)
spool.append(received_ms=1, kind="message", wa_id="", raw=b"", event=None)
"""


def test_many_processes_may_make_the_file_at_once(path: Path) -> None:
    """Worker and daemon open a new spool together: one generation, both usable."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    generations = {child.communicate()[0].strip() for child in children}
    assert [child.returncode for child in children] == [0] * 6
    with closing(Spool.open(path)) as spool:
        assert generations == {spool.generation}
        assert spool.backlog(0).rows == 6


_APPENDER = """
import sys
from pathlib import Path
from wad.state.spool import Spool
spool = Spool.open(Path(sys.argv[1]))
while True:
    seq = spool.append(received_ms=1, kind="message", wa_id="x", raw=b"r" * 2000, event=b"e")
    print(seq, flush=True)
"""


def test_acknowledged_rows_survive_kill_9(path: Path) -> None:
    """Twelve times in a row, with a reader on the file: every acknowledged number is readable."""
    acknowledged: set[int] = set()
    with closing(Spool.open(path)) as daemon:
        for round_ in range(12):
            with subprocess.Popen(
                [sys.executable, "-c", _APPENDER, str(path)], stdout=subprocess.PIPE, text=True
            ) as child:
                assert child.stdout is not None
                for _ in range(2 + round_ * 7):
                    acknowledged.add(int(child.stdout.readline()))
                    daemon.after(0, 5)
                child.send_signal(signal.SIGKILL)
                acknowledged |= {int(line) for line in child.stdout.read().splitlines()}
            with closing(Spool.open(path)) as fresh:
                stored = {row.seq for row in fresh.after(0, 100_000)}
            assert acknowledged <= stored
            assert {row.seq for row in daemon.after(0, 100_000)} == stored
    assert stored == set(range(1, max(stored) + 1))


# --- rows that were kept --------------------------------------------------------------------------


def test_a_row_that_was_set_aside_is_kept_until_an_operator_decides(spool: Spool) -> None:
    """It is counted and listed, and never pruned."""
    seqs = [put(spool, number, untranslated=number == 2) for number in (1, 2, 3)]
    spool.set_aside(seqs[0], "it cannot be decoded", 77)
    assert spool.counts() == (1, 1)
    assert spool.prune(seqs[2], 100, 100) == 1
    sizes = [300, 300 + len(event(1))]
    assert spool.kept(10) == [
        QuarantinedRow(seqs[1], 2, "message", "ID2", "too strange", sizes[0]),
        QuarantinedRow(seqs[0], 1, "message", "ID1", "it cannot be decoded", sizes[1]),
    ]
    assert spool.drop(seqs[0])
    assert not spool.drop(seqs[0])
    assert spool.counts() == (1, 0)


def test_a_row_that_was_recorded_after_all_is_like_any_other(spool: Spool) -> None:
    """It has its translation, and is pruned."""
    seq = put(spool, 1, untranslated=True)
    spool.recorded(seq, event(1))
    assert spool.counts() == (0, 0)
    assert spool.row(seq) == SpoolRow(seq, 1, "message", "ID1", b"\1" * 300, event(1), "")
    assert spool.prune(seq, 100, 100) == 1


def test_a_read_is_limited(spool: Spool) -> None:
    """At least one row is read, however large."""
    for number in range(4):
        put(spool, number)
    assert len(spool.after(0, 10, size=1)) == 1
    assert len(spool.after(0, 10, size=len(event(0)) + 1)) == 2


def test_a_text_that_cannot_be_read_hides_no_row(spool: Spool, path: Path) -> None:
    """As a damaged page may hold."""
    put(spool, 1)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE events SET kind = CAST(x'ff' AS TEXT)")
        db.commit()
    assert [row.kind for row in spool.after(0, 10)] == ["\ufffd"]


@pytest.mark.parametrize("column", ["kind", "wa_id", "raw", "event", "reason", "received_ms"])
@pytest.mark.parametrize("value", ["7", "7.5", "'text'", "x'ff00'"])
def test_a_value_of_another_type_hides_no_row(
    spool: Spool, path: Path, column: str, value: str
) -> None:
    """A damaged page may contain a number instead of bytes; listing, showing and recording go on."""
    for number in range(3):
        put(spool, number)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE events SET {column} = {value} WHERE seq = 2")
        db.commit()
    spool.set_aside(2, "damaged", 1)
    assert [row.seq for row in spool.after(0, 10)] == [1, 2, 3]
    assert [row.seq for row in spool.kept(10)] == [2]
    row = spool.row(2)
    assert row is not None
    assert isinstance(row.raw, bytes)
    assert isinstance(row.event, bytes)
    assert isinstance(row.kind + row.wa_id + row.reason, str)
    assert isinstance(spool.kept(10)[0].received_ms, int)
    assert all(isinstance(raw, bytes) for raw in spool.raw_after(0, row.kind))


# --- damage ---------------------------------------------------------------------------------------


def a_long_one(path: Path, rows: int = 600) -> None:
    """A spool of some hundred pages."""
    with closing(Spool.open(path)) as spool:
        found = [(n, "message", f"ID{n}", b"raw" * 200, event(n), "") for n in range(rows)]
        spool.append_salvaged(found, "elsewhere", Salvaged())


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_found_when_it_is_opened(path: Path, what: str) -> None:
    """Overwritten or cut off anywhere: it is not read as if it were whole."""
    a_long_one(path)
    damage(path, what)
    with pytest.raises(Damaged, match=r"spool\.db is damaged"):
        Spool.open(path)
