"""Firestore emptied, restored or changed while a machine holds the lease: one more epoch, and none is repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from tests.firestore.leases import a_leader, a_record, take
from tests.firestore.stores import LEASE, Console
from tests.firestore.test_quarantine import write
from tests.firestore.values import Value
from tests.support.leaders import Leaderships, running
from tests.support.waiting import until
from wad.core import lease
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(180)

POINTER: Final = f"{LEASE}/wad/epoch"
OLD: Final = 7
"""Epochs before the leadership in which it happens."""

Damage = Callable[[Console, FirestoreAccess], Awaitable[None]]


async def _all(console: Console, access: FirestoreAccess) -> None:
    for collection in ("fences", "history"):
        for ident in await console.all(f"{LEASE}/{collection}"):
            await console.delete(f"{LEASE}/{collection}/{ident}")
    await console.delete(POINTER)
    await console.delete(LEASE)


async def _lease(console: Console, access: FirestoreAccess) -> None:
    await console.delete(LEASE)


async def _backup(console: Console, access: FirestoreAccess) -> None:
    """The pointer and the fences of an older epoch."""
    await _all(console, access)
    await console.set(POINTER, {"epoch": 2})
    for shard in range(8):
        await console.set(f"{LEASE}/fences/2.{shard}", {"account": ""})


def _pointer(value: object) -> Damage:
    async def damage(console: Console, access: FirestoreAccess) -> None:
        await console.set(POINTER, {"epoch": value})
        await console.delete(LEASE)

    return damage


async def _reference(console: Console, access: FirestoreAccess) -> None:
    """Fields of the replaced backend, in a document that an import has created again."""
    reference = Value(reference_value="projects/other/databases/(default)/documents/a/b")
    await write(access, LEASE, {"by": reference})


DAMAGES: Final[dict[str, Damage]] = {
    "everything is gone": _all,
    "the lease is gone": _lease,
    "an older backup": _backup,
    "a reference": _reference,
    "a text for the epoch": _pointer("seven"),
    "nothing for the epoch": _pointer(None),
    "half an epoch": _pointer(1.5),
    "an epoch below zero": _pointer(-3),
    "the largest integer for the epoch": _pointer((1 << 63) - 1),
    "no number": _pointer(float("nan")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_one_more_epoch_and_none_twice(access: FirestoreAccess, damage: Damage) -> None:
    """The leader that detects it takes the next epoch, whatever Firestore has stored."""
    console, leaderships = Console(access), Leaderships()
    async with a_record(access) as record:
        await take(record, "before", OLD)
        await record.write(*await _freed(record))
    async with a_leader(access, "one") as leader, running(leader, leaderships) as task:
        await until(lambda: leaderships.acting, "the first leadership")
        first = leaderships.epochs[0]
        await damage(console, access)
        await until(
            lambda: len(leaderships.epochs) == 2 and leaderships.acting, "the second leadership", 60
        )
        assert not task.done()
        assert leaderships.epochs == [first, first + 1]
        assert (await console.there(POINTER))["epoch"] == first + 1
        fences = await console.all(f"{LEASE}/fences")
        assert {name.partition(".")[0] for name in fences} == {str(first + 1)}
    console.close()


async def _freed(record: Any) -> tuple[Any, str]:
    seen = await record.read()
    assert seen is not None
    assert seen.version is not None
    return lease.released(seen.record, 1, "done"), seen.version
