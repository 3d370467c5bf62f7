"""Each query is covered by `packaging/firestore/firestore.indexes.json`: the emulator runs any, Google does not.

See docs/internals/firestore.md#what-the-emulator-does-not-show.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud.firestore_v1.base_query import BaseQuery

from tests.contracts.world import ACC, ANN_THREAD, EPOCH, NOON, arrival, queued, sent
from tests.firestore.audits import audited
from tests.firestore.leases import a_record
from tests.firestore.stores import LEASE, Console, a_store
from tests.support.waiting import until
from wad.audit.duplicates import Question
from wad.audit.firestore.repair import FirestoreRepairs
from wad.audit.rows import Range
from wad.lib.clock import SystemClock
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore
from wad.store.firestore.documents.legacy import ID_FIELDS
from wad.store.firestore.sync.pull import COLLECTIONS

FILE = Path(__file__).parents[2] / "packaging" / "firestore" / "firestore.indexes.json"


@dataclass(frozen=True)
class Need:
    """The index that a query needs."""

    collection: str
    scope: str
    fields: tuple[tuple[str, str], ...]


def need_of(query: Any) -> Need:
    """Equalities first, then the sort fields; a range needs its field sorted."""
    (source,) = query["from"]
    filters = query.get("where", {})
    parts = filters.get("compositeFilter", {}).get("filters", [filters] if filters else [])
    tests = [part["fieldFilter"] for part in parts]
    equal = [(t["field"]["fieldPath"], "ASCENDING") for t in tests if t["op"] == "EQUAL"]
    order = [(o["field"]["fieldPath"], o["direction"]) for o in query.get("orderBy", [])]
    ranges = [t["field"]["fieldPath"] for t in tests if t["op"] != "EQUAL"]
    order += [(path, "ASCENDING") for path in ranges if path not in dict(order)]
    order = [(path, direction) for path, direction in order if path != "__name__"]
    scope = "COLLECTION_GROUP" if source.get("allDescendants") else "COLLECTION"
    return Need(source["collectionId"], scope, (*equal, *order))


def is_covered(need: Need) -> bool:
    """Whether the file, or one of Firestore's automatic indexes, serves it."""
    file = json.loads(FILE.read_text())
    if len(need.fields) > 1:
        return any(
            (index["collectionGroup"], index["queryScope"]) == (need.collection, need.scope)
            and tuple((f["fieldPath"], f["order"]) for f in index["fields"]) == need.fields
            for index in file["indexes"]
        )
    for path, direction in need.fields:
        for override in file["fieldOverrides"]:
            if (override["collectionGroup"], override["fieldPath"]) == (need.collection, path):
                return any(
                    (index["order"], index["queryScope"]) == (direction, need.scope)
                    for index in override["indexes"]
                )
        # Of single fields Firestore has indexes by itself, for one collection at a time.
        return need.scope == "COLLECTION"
    return True


@pytest.fixture
def needs(monkeypatch: pytest.MonkeyPatch) -> set[Need]:
    """The needs of all queries."""
    found: set[Need] = set()
    original = BaseQuery._to_protobuf

    def noting(query: BaseQuery) -> Any:
        wire = original(query)
        found.add(need_of(json.loads(type(wire).to_json(wire, use_integers_for_enums=False))))
        return wire

    monkeypatch.setattr(BaseQuery, "_to_protobuf", noting)
    return found


async def test_every_query_has_its_index(
    access: FirestoreAccess, tmp_path: Path, needs: set[Need]
) -> None:
    """All queries of the store and the lease, once each, with results for all of them."""
    console = Console(access)
    await console.set(f"threads/{ANN_THREAD}", {"lastMessageAtMs": NOON})
    console.close()
    async with a_store(access, tmp_path, "here") as here, here.lead(EPOCH, lambda account: None):
        await here.record(ACC, arrival(1))
        await sent(here, queued(), "W1")
        await until(lambda: here._pusher.epoch == EPOCH)
        await here.wait_pushed()
    async with (
        a_store(access, tmp_path, "there") as there,
        there.lead(EPOCH + 1, lambda account: None),
    ):
        await until(lambda: there._pusher.epoch == EPOCH + 1)
        await here_again(access, tmp_path)
        await there.pull()
    async with a_record(access) as record:
        await record.history(5)
    by_id = {Need("messages", "COLLECTION", ((name, "ASCENDING"),)) for name in ID_FIELDS}
    assert by_id <= needs
    assert set(COLLECTIONS) | {"outbox", "machines", "history"} <= {
        need.collection for need in needs
    }
    assert [need for need in sorted(needs, key=repr) if not is_covered(need)] == []


async def test_every_query_of_the_audits_has_its_index(
    access: FirestoreAccess, tmp_path: Path, needs: set[Need]
) -> None:
    """For everything, for one account, for one thread; and those of a repair."""
    for account, thread in (("", ""), (ACC, ""), (ACC, ANN_THREAD)):
        audited(access, Question(NOON, account=account, thread=thread))
    with closing(FirestoreRepairs(Firestore(access, "r", 1), LEASE, tmp_path, SystemClock())) as it:
        it.repair(Range(), None)
    assert {"messages", "threads", "jid_aliases"} <= {need.collection for need in needs}
    assert [need for need in sorted(needs, key=repr) if not is_covered(need)] == []


async def here_again(access: FirestoreAccess, directory: Path) -> None:
    """The first machine pushes more, so that the other has a position to continue from."""
    async with a_store(access, directory, "here") as here:
        await here.record(ACC, arrival(2))
        await here.wait_pushed()


@pytest.mark.parametrize(
    "need",
    [
        Need(
            "threads", "COLLECTION", (("accountId", "ASCENDING"), ("lastMessageAt", "DESCENDING"))
        ),
        Need("messages", "COLLECTION", (("tsClient", "DESCENDING"),)),
        Need("messages", "COLLECTION_GROUP", (("tsClient", "DESCENDING"),)),
        Need("messages", "COLLECTION", (("tsSort", "DESCENDING"),)),
        Need("outbox", "COLLECTION", (("status", "ASCENDING"), ("nextAttemptAt", "ASCENDING"))),
    ],
)
def test_the_queries_of_the_apps_have_their_indexes(need: Need) -> None:
    """The queries of docs/internals/replaced-backend.md#documents."""
    assert is_covered(need)


@pytest.mark.parametrize(
    "need",
    [
        Need("messages", "COLLECTION_GROUP", (("createdAt", "DESCENDING"),)),
        Need("messages", "COLLECTION", (("body", "ASCENDING"),)),
        Need(
            "threads", "COLLECTION", (("lastMessageAt", "DESCENDING"), ("accountId", "ASCENDING"))
        ),
    ],
)
def test_a_missing_index_is_detected(need: Need) -> None:
    """Otherwise the test above proves nothing."""
    assert not is_covered(need)
