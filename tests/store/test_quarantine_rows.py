"""The quarantine of Firestore's documents is bounded, and every loss is reported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wad.core.errors import BadInput
from wad.core.quarantine import Quarantined
from wad.store.firestore.sync import quarantine_rows
from wad.store.firestore.sync.change_log import KeyKind
from wad.store.firestore.sync.quarantine import DocumentQuarantine
from wad.store.firestore.sync.quarantine_rows import MORE, FailedAction, QuarantinedDocument
from wad.store.firestore.sync.replica import Replica, open_replica

MOST = 5


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small bounds."""
    monkeypatch.setattr(quarantine_rows, "MAX_ITEMS", MOST)
    monkeypatch.setattr(quarantine_rows, "MAX_VERSIONS", 20)
    monkeypatch.setattr(quarantine_rows, "MAX_BYTES", 100)


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    """A working copy without Firestore."""
    store = Replica(tmp_path / "wad.db", *open_replica(tmp_path / "wad.db"))
    try:
        yield store
    finally:
        await store.close()


def quarantine(replica: Replica) -> DocumentQuarantine:
    """The quarantine as operators see it."""

    async def push_again(item: QuarantinedDocument) -> None:
        await replica.push_again(item)

    return DocumentQuarantine(None, replica, push_again, lambda account: None)  # type: ignore[arg-type]


async def put(replica: Replica, *numbers: int) -> None:
    """Quarantine documents, one after the other."""
    for number in numbers:
        await replica.add_quarantined(
            [
                QuarantinedDocument(
                    f"wad_facts/x{number:02}", "acc", "it makes no sense", version="1"
                )
            ]
        )


def named(items: list[Quarantined]) -> list[str]:
    return sorted(item.name for item in items)


async def test_items_beyond_the_bound_are_counted_and_named(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """The count continues, one item in the list represents the rest, and the log has each."""
    await put(replica, *range(MOST + 3))
    assert (replica.quarantined, replica.unlisted) == (MOST, 3)
    found = quarantine(replica)
    assert found.count == MOST + 3
    items = list(await found.items())
    (more,) = [item for item in items if item.id == MORE]
    assert more.name.startswith("3 documents")
    assert len(items) == MOST + 1
    listed = {item.name for item in items}
    gone = {f"wad_facts/x{number:02}" for number in range(MOST + 3)} - listed
    assert len(gone) == 3
    for path in gone:
        assert f"{path} is no longer listed in quarantine" in caplog.text


async def test_an_unlisted_item_is_not_handled_again_and_counts_once(replica: Replica) -> None:
    """A listener that is opened again reports all of them again; a newer version is a different item."""
    await put(replica, *range(MOST + 3))
    for _ in range(3):
        found = quarantine_rows.known(
            replica._reading, [(f"wad_facts/x{n:02}", "1") for n in range(MOST + 3)]
        )
        assert len(found) == MOST + 3
    assert quarantine_rows.known(replica._reading, [("wad_facts/x00", "2")]) == set()
    assert replica.unlisted == 3


@pytest.mark.parametrize("act", ["retry", "drop"])
async def test_an_operator_decides_about_the_rest(replica: Replica, act: str) -> None:
    """Dropped items do not return; retried ones are handled again when they are read next."""
    await put(replica, *range(MOST + 3))
    found = quarantine(replica)
    assert await found.show(MORE)
    await (found.drop(MORE) if act == "drop" else found.retry(MORE))
    assert (replica.quarantined, replica.unlisted) == (MOST, 0)
    assert MORE not in [item.id for item in await found.items()]
    versions = [(f"wad_facts/x{n:02}", "1") for n in range(MOST + 3)]
    assert len(quarantine_rows.known(replica._reading, versions)) == (
        MOST + 3 if act == "drop" else MOST
    )


async def test_the_rest_is_bounded(replica: Replica) -> None:
    """Paths take space, too; the count then says "at least"."""
    await put(replica, *range(MOST + 25))
    assert replica.unlisted == 20
    (more,) = [item for item in await quarantine(replica).items() if item.id == MORE]
    assert more.name.startswith("at least 20 documents")


async def test_bytes_that_are_kept_nowhere_else_are_bounded_and_named(
    replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """The content of an item is deleted: this is in its reason, and it cannot be pushed again."""
    for number in range(3):
        path, content = f"wad_facts/f{number}", bytes([number]) * 60
        one = QuarantinedDocument(
            path,
            "acc",
            "refused",
            origin=FailedAction.WRITE,
            kind=KeyKind.FACT,
            key=path,
            payload=content,
        )
        await replica.add_quarantined([one])
    found = quarantine(replica)
    emptied = [item for item in await found.items() if "no longer kept" in item.reason]
    assert named(emptied) == ["wad_facts/f0", "wad_facts/f1"]
    assert caplog.text.count("is no longer kept") == 2
    with pytest.raises(BadInput, match="no longer kept"):
        await found.retry(emptied[0].id)
