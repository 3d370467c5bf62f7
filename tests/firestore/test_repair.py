"""The repair of Firestore's documents that the legacy backend has damaged, behind the fence."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud import firestore

from tests.contracts.world import ACC, ANN, ANN_LID, ANN_LID_THREAD, ANN_THREAD, NOON, arrival
from tests.firestore.audits import ask, audited, run
from tests.firestore.grpc_proxy import Refusal
from tests.firestore.legacy_documents import (
    OBJECT_THREAD,
    a_receipt,
    a_thread,
    an_alias,
    everything_wrong,
    message,
    moment,
    of_a_function,
    of_m,
    of_s,
    put,
)
from tests.firestore.reference import Reference
from tests.firestore.refusing import refusing
from tests.firestore.stores import LEASE, Console, Document, leading
from wad.audit.duplicates import Question
from wad.audit.firestore.repair import FirestoreRepairs
from wad.audit.reports import RepairReport, RepairVerdict
from wad.audit.rows import Range
from wad.core.errors import BadInput, Conflict, Fenced
from wad.lib.clock import SystemClock
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore
from wad.store.firestore.lease.fence import Fence

pytestmark = pytest.mark.timeout(180)

NOW = NOON + 60_000
AT = NOW - 600_000


class _Clock(SystemClock):
    def wall_ms(self) -> int:
        return NOW


@pytest.fixture
def other(access: FirestoreAccess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Google's own client, as another program uses it."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", access.emulator)
    client: Any = firestore.Client(project=access.project)
    yield client
    client.close()


class Bench:
    """A database, and its repair."""

    def __init__(self, access: FirestoreAccess, directory: Path, console: Console) -> None:
        self.access = access
        self.console = console
        self.file = directory / "repairs" / "undo"
        self._directory = directory

    def repair(self, wanted: Range = Range(), *, apply: bool, to: str = "") -> RepairReport:  # noqa: B008, a tuple
        """Run the repair once; `to`: through this address."""
        access = replace(self.access, emulator=to) if to else self.access
        with closing(self._tools(access)) as tools:
            return tools.repair(wanted, self.file if apply else None)

    def revert(self) -> int:
        """Undo the repair; return the number of documents."""
        with closing(self._tools(self.access)) as tools:
            return tools.revert(self.file).rows

    def _tools(self, access: FirestoreAccess) -> FirestoreRepairs:
        return FirestoreRepairs(Firestore(access, "repair", 1), LEASE, self._directory, _Clock())

    async def everything(self) -> dict[str, Document]:
        """Every message and thread, by path."""
        threads = await self.console.all("threads")
        found = {f"threads/{ident}": fields for ident, fields in threads.items()}
        return found | await self.console.group("messages")

    async def repaired(self, wanted: Range = Range()) -> RepairReport:  # noqa: B008, a tuple
        """Run a dry run, the repair, and the repair again: it does what it reported, and leaves nothing to do."""
        before = await self.everything()
        tried = self.repair(wanted, apply=False)
        assert await self.everything() == before
        done = self.repair(wanted, apply=True)
        assert (tried.verdict, done.verdict) == (RepairVerdict.TO_REPAIR, RepairVerdict.REPAIRED)
        assert done.rows_changed == tried.rows_changed > 0
        assert done.changed_meanwhile == 0
        after = await self.everything()
        assert set(after) >= set(before), "nothing is deleted"
        again = self.repair(wanted, apply=False)
        assert (again.verdict, again.rows_changed) == (RepairVerdict.CLEAN, 0), again
        return done


@pytest.fixture
def bench(access: FirestoreAccess, tmp_path: Path, console: Console) -> Bench:
    """An empty database."""
    return Bench(access, tmp_path, console)


# --- each kind of damage --------------------------------------------------------------------------------


async def test_everything_at_once(bench: Bench, access: FirestoreAccess, console: Console) -> None:
    """Afterwards the audits are clean, and the undo restores every field."""
    await everything_wrong(console, NOW)
    before = await bench.everything()
    report = await bench.repaired()
    messages, threads = audited(access, Question(NOW))
    assert (messages.verdict, threads.verdict) == ("clean", "clean")
    assert (messages.active_docs, threads.total_threads) == (6, 1)
    assert (report.times_rewritten, report.receipts_marked, report.duplicates_to_mark) == (2, 2, 2)
    assert (report.messages_moved, report.addresses_joined, report.left) == (2, 1, 0)
    assert report.groups_with_duplicates == 2
    assert stat.S_IMODE(bench.file.stat().st_mode) == 0o600
    assert bench.revert() > 0
    assert await bench.everything() == before


async def test_a_time_that_is_a_text(bench: Bench, console: Console) -> None:
    """It becomes a Timestamp, and milliseconds a whole number; an unknown time is left and counted."""
    await put(
        console,
        text=of_a_function(AT),
        missing={k: v for k, v in of_m("W1", AT).items() if k != "tsClient"},
        hopeless={"direction": "inbound", "body": "when?", "tsClient": "soon"},
    )
    report = await bench.repaired()
    assert (report.times_rewritten, report.left) == (2, 1)
    text = await console.there(message(ANN_THREAD, "text"))
    assert text["tsClient"] == moment(AT)
    assert (text["createdAtMs"], type(text["createdAtMs"])) == (AT, int)
    assert (await console.there(message(ANN_THREAD, "missing")))["tsClient"] == moment(AT)
    assert (await console.there(message(ANN_THREAD, "hopeless")))["tsClient"] == "soon"


async def test_statuses_that_are_one_too_far(bench: Bench, console: Console) -> None:
    """Of our own messages; a receipt's own time is trusted, and inbound ones are not changed."""
    await put(
        console,
        read=of_m("W1", AT, "a", out=True) | {"status": "read"},
        delivered=of_m("W2", AT, "b", out=True) | {"status": "delivered"},
        sent=of_m("W3", AT, "c", out=True),
        receipted=of_m("W4", AT, "d", out=True) | {"status": "read", "readAt": moment(AT)},
        inbound=of_m("W5", AT, "e"),
    )
    report = await bench.repaired()
    assert report.statuses_corrected == 2
    found = await console.all(f"threads/{ANN_THREAD}/messages")
    assert {ident: each["status"] for ident, each in found.items()} == {
        "read": "delivered",
        "delivered": "sent",
        "sent": "sent",
        "receipted": "read",
        "inbound": "delivered",
    }
    assert found["read"]["statusBeforeRepair"] == "read"


async def test_a_receipt_is_applied_to_its_message(bench: Bench, console: Console) -> None:
    """By WhatsApp's id; the document that only holds it is marked and stays."""
    await put(
        console,
        request=of_a_function(AT, wa_id="W1"),
        W1=a_receipt("read", AT),
        W2=a_receipt("delivered", AT),
    )
    report = await bench.repaired()
    assert (report.receipts_marked, report.statuses_corrected) == (2, 1)
    assert (await console.there(message(ANN_THREAD, "request")))["status"] == "delivered"
    marked = await console.there(message(ANN_THREAD, "W1"))
    assert (marked["isDuplicate"], marked["duplicateOf"]) == (True, "request")
    alone = await console.there(message(ANN_THREAD, "W2"))
    assert (alone["isDuplicate"], alone["duplicateOf"]) == (True, None)


async def test_messages_of_an_objects_thread(bench: Bench, console: Console) -> None:
    """Each is copied to its sender's thread; the old thread is hidden, and redirects if there is only one target."""
    await console.set(f"threads/{OBJECT_THREAD}", a_thread(AT, jid={"peerType": "user"}))
    await console.set(message(OBJECT_THREAD, "s1"), of_s("W1", AT, "an object's"))
    await bench.repaired()
    moved = await console.there(message(ANN_THREAD, "s1"))
    assert (moved["body"], moved["clientJid"], moved["threadId"]) == (
        "an object's",
        str(ANN),
        ANN_THREAD,
    )
    left = await console.there(message(OBJECT_THREAD, "s1"))
    assert (left["isDuplicate"], left["duplicateOf"], left["movedTo"]) == (True, "s1", ANN_THREAD)
    thread = await console.there(f"threads/{OBJECT_THREAD}")
    assert (thread["redirectTo"], thread["hidden"]) == (ANN_THREAD, True)
    shown = await console.there(f"threads/{ANN_THREAD}")
    assert (shown["lastMessageAtMs"], shown["lastMessageText"]) == (AT, "an object's")
    assert (shown["accountId"], shown["clientJid"]) == (ACC, str(ANN))


async def test_a_message_without_an_address_is_left(bench: Bench, console: Console) -> None:
    """Then its thread stays as it is, for an operator to check."""
    await console.set(f"threads/{OBJECT_THREAD}", a_thread(AT, jid={}))
    unaddressed = {"accountId": ACC, "direction": "outbound", "body": "?", "tsClient": moment(AT)}
    await console.set(message(OBJECT_THREAD, "s1"), unaddressed)
    report = bench.repair(apply=True)
    assert (report.verdict, report.left, report.undo_file) == (RepairVerdict.CLEAN, 1, None)
    assert not bench.file.exists()


async def test_duplicates_under_a_lid(bench: Bench, console: Console) -> None:
    """A message that exists once moves, a duplicate is marked; the old thread redirects to the number's."""
    await console.set(f"jid_aliases/{ACC}__{ANN_LID}", an_alias())
    await console.set(f"threads/{ANN_LID_THREAD}", a_thread(AT, jid=str(ANN_LID)))
    await console.set(f"threads/{ANN_THREAD}", a_thread(AT))
    lid = str(ANN_LID)
    await console.set(message(ANN_LID_THREAD, "W1"), of_m("W1", AT, jid=lid))
    await console.set(message(ANN_LID_THREAD, "W2"), of_m("W2", AT + 1000, "only here", jid=lid))
    await put(console, W1=of_m("W1", AT))
    report = await bench.repaired()
    assert (report.addresses_joined, report.messages_moved, report.duplicates_to_mark) == (1, 1, 1)
    assert (await console.there(f"threads/{ANN_LID_THREAD}"))["redirectTo"] == ANN_THREAD
    thread = await console.there(f"threads/{ANN_THREAD}")
    assert (thread["lastMessageAtMs"], thread["lastMessageText"]) == (AT + 1000, "only here")


async def test_an_unknown_lid_is_left_alone(bench: Bench, console: Console) -> None:
    """Its number is not known."""
    await console.set(f"threads/{ANN_LID_THREAD}", a_thread(AT, jid=str(ANN_LID)))
    await console.set(message(ANN_LID_THREAD, "W1"), of_m("W1", AT, jid=str(ANN_LID)))
    assert bench.repair(apply=False).verdict is RepairVerdict.CLEAN


async def test_a_conversation_names_its_newest_message(bench: Bench, console: Console) -> None:
    """Also if it had the time of a synchronisation, or one that the apps cannot read."""
    await put(console, a=of_m("W1", AT - 1000, "old"), b=of_m("W2", AT, "new"))
    await console.set(f"threads/{ANN_THREAD}", a_thread(NOW) | {"lastMessageAtMs": float(NOW)})
    await bench.repaired()
    thread = await console.there(f"threads/{ANN_THREAD}")
    assert (thread["lastMessageAt"], thread["lastMessageText"]) == (moment(AT), "new")
    assert type(thread["lastMessageAtMs"]) is int
    assert thread["displayName"] == "Ann"


async def test_duplicates_only_in_the_window(bench: Bench, console: Console) -> None:
    """Of each pair the outbox's own document stays."""
    old = {"a": of_m("W1", AT - 10_000_000, "old"), "b": of_m("W1", AT - 10_000_000, "old")}
    await put(
        console, **old, c=of_m("W2", AT, "new", out=True), d=of_a_function(AT, "new", wa_id="W2")
    )
    await bench.repaired(Range(window_hours=1.0))
    marked = [
        ident
        for ident, each in (await console.all(f"threads/{ANN_THREAD}/messages")).items()
        if each.get("isDuplicate")
    ]
    assert marked == ["c"]


async def test_one_thread_alone(bench: Bench, console: Console) -> None:
    """The others stay as they are; the report names it by a hash."""
    await put(console, a=of_a_function(AT))
    other = f"{ACC}__40700000002@s.whatsapp.net"
    await console.set(message(other, "a"), of_a_function(AT))
    report = await bench.repaired(Range(thread=ANN_THREAD))
    assert (report.scanned_messages, report.last_message_at_ms_candidate) == (1, AT)
    assert report.thread_id_hash is not None
    assert isinstance((await console.there(message(other, "a")))["tsClient"], str)


# --- beside the daemon ------------------------------------------------------------------------------------


async def test_documents_of_the_daemon_are_not_changed(
    bench: Bench, console: Console, access: FirestoreAccess, tmp_path: Path
) -> None:
    """Of a message that both have stored wad's document stays and is updated; the other is marked."""
    await put(console, **{"3EB000000001": of_m("3EB000000001", NOON + 1000, "text 1")})
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
        before = await console.all(f"threads/{ANN_THREAD}/messages")
        assert audited(access, Question(NOW))[0].duplicates_count_active == 1
        report = await bench.repaired()
        assert (report.duplicates_to_mark, report.left) == (1, 0)
        after = await console.all(f"threads/{ANN_THREAD}/messages")
        assert {ident for ident in after if after[ident] != before[ident]} == {"3EB000000001"}
        await store.record(ACC, arrival(2))
        await store.wait_pushed()
        assert audited(access, Question(NOW))[0].verdict == "clean"
        assert bench.repair(apply=False).verdict is RepairVerdict.CLEAN


async def test_the_legacy_backend_must_not_run(bench: Bench, console: Console, other: Any) -> None:
    """Its writes and the repair would mix; a dry run is allowed."""
    await put(console, a=of_a_function(AT))
    node = Reference(other, "node-1")
    assert node.try_acquire()
    assert bench.repair(apply=False).times_rewritten == 1
    with pytest.raises(Conflict, match="node-1 holds the lease"):
        bench.repair(apply=True)
    node.release()
    assert bench.repair(apply=True).verdict is RepairVerdict.REPAIRED


def at_first_commit(act: Callable[[], None]) -> Callable[[str, bytes], Refusal | None]:
    """Forward everything, and act just before the first commit that holds a message's document."""
    done: list[bool] = []

    def judge(name: str, request: bytes) -> Refusal | None:
        if name == "Commit" and b"/messages/" in request and not done:
            done.append(True)
            act()
        return None

    return judge


async def test_an_epoch_that_is_over(
    bench: Bench, console: Console, access: FirestoreAccess, other: Any
) -> None:
    """Another machine takes the lease while documents are read: the server refuses the planned writes."""
    await put(console, a=of_a_function(AT))

    def take_over() -> None:
        batch = other.batch()
        Fence(LEASE).begin(other, batch, Fence(LEASE).read(other), 2)
        batch.commit()

    with (
        refusing(access.emulator, at_first_commit(take_over)) as address,
        pytest.raises(Fenced, match="epoch 1 is over, epoch 2 has begun"),
    ):
        bench.repair(apply=True, to=address)
    assert isinstance((await console.there(message(ANN_THREAD, "a")))["tsClient"], str)


async def test_a_document_that_changes_meanwhile(
    bench: Bench, console: Console, access: FirestoreAccess, other: Any
) -> None:
    """It is left as it is, and counted; all others are repaired, and the next run repairs this one."""
    await put(console, **{f"m{n}": of_a_function(AT + n, f"text {n}") for n in range(9)})

    def write() -> None:
        other.document(message(ANN_THREAD, "m4")).update({"body": "changed"})

    with refusing(access.emulator, at_first_commit(write)) as address:
        report = bench.repair(apply=True, to=address)
    assert (report.rows_changed, report.changed_meanwhile) == (9, 1)
    found = await console.all(f"threads/{ANN_THREAD}/messages")
    assert [ident for ident in found if isinstance(found[ident]["tsClient"], str)] == ["m4"]
    assert found["m4"]["body"] == "changed"
    assert bench.repair(apply=False).times_rewritten == 1


# --- the undo file ----------------------------------------------------------------------------------------


async def test_later_changes_survive_the_undo(bench: Bench, console: Console) -> None:
    """The undo touches only values that are still as the repair wrote them."""
    await everything_wrong(console, NOW)
    bench.repair(apply=True)
    path = message(ANN_THREAD, "request1")
    await console.set(path, (await console.there(path)) | {"tsClient": moment(NOW), "status": "read"})  # fmt: skip
    copy = message(ANN_THREAD, "W6")
    await console.set(copy, (await console.there(copy)) | {"status": "read"})
    bench.revert()
    assert (await console.there(path))["tsClient"] == moment(NOW)
    assert (await console.there(copy))["status"] == "read"
    assert isinstance((await console.there(message(ANN_THREAD, "request2")))["tsClient"], str)


def test_an_invalid_undo_file(bench: Bench) -> None:
    """It is named."""
    bench.file.parent.mkdir()
    bench.file.write_bytes(b"nothing")
    with pytest.raises(BadInput, match="is not an undo file"):
        bench.revert()


# --- the command --------------------------------------------------------------------------------------------


async def test_the_command(access: FirestoreAccess, console: Console, tmp_path: Path) -> None:
    """2 if there is something to repair, 0 once it is repaired, 0 for nothing to do; the undo file is in the state
    directory."""
    await put(console, a=of_a_function(AT))
    assert ask(access, tmp_path, "repair", code=2)["timesRewritten"] == 1
    done = ask(access, tmp_path, "repair", "--apply")
    assert (done["verdict"], done["store"], done["ok"]) == ("repaired", "firestore", True)
    assert Path(done["undoFile"]).parent == tmp_path / "repairs"
    assert ask(access, tmp_path, "repair", "--apply")["verdict"] == "clean"
    back = json.loads(run(access, tmp_path, "repair", "--undo", done["undoFile"], "--json").stdout)
    assert (back["ok"], back["rows"]) == (True, 2)
    shown = run(access, tmp_path, "repair")
    assert shown.exit_code == 2
    assert "apply it with: wadctl audit repair --apply" in shown.stdout
