"""The leader drives the lease: it acquires, renews, steps down in time and releases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.leaders import TERMS, Leaderships, Shared, a_leader, running
from tests.support.waiting import TIMEOUT, until
from wad.core import lease
from wad.core.errors import Conflict, Unavailable
from wad.core.lease import LeaseTerms, Record, Seen
from wad.flow.event_bus import Bus
from wad.flow.leadership.leader import Leader
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.store.lease import FileLease


async def test_it_acquires_and_renews() -> None:
    """The permission lasts beyond one ttl, and each renewal is reported: as a time, not as a duration."""
    shared, leaderships, permits = Shared(), Leaderships(), list[float]()
    leader = a_leader(shared, "one", permits.append)
    begun = SystemClock().monotonic()
    async with running(leader, leaderships):
        await until(lambda: len(permits) > 8, "renewals")
        assert leader.valid_for() is not None
        assert leaderships.epochs == [1]
        assert permits == sorted(permits)
        assert permits[0] > begun
        assert permits[-1] <= SystemClock().monotonic() + TERMS.ttl - TERMS.margin


async def test_it_is_active_only_once_the_term_has_begun() -> None:
    """With the lease acquired but nothing running yet, an order would find no task to execute it."""
    begin, seen = asyncio.Event(), list[tuple[bool, bool]]()
    leader = a_leader(Shared(), "one")

    @asynccontextmanager
    async def lead(epoch: int) -> AsyncIterator[None]:
        seen.append((leader.valid_for() is not None, leader.active))
        await begin.wait()
        yield

    task = asyncio.create_task(leader.run(lead))
    await until(lambda: seen, "the lease")
    assert seen == [(True, False)]
    assert not leader.settled.is_set()
    begin.set()
    await until(lambda: leader.active, "the leadership")
    assert leader.settled.is_set()
    task.cancel()
    await asyncio.wait([task])
    assert not leader.active


async def test_release_follows_the_term() -> None:
    """At the end the term ends first, then the record is free and keeps its epoch."""
    shared, leaderships = Shared(), Leaderships()
    async with running(a_leader(shared, "one"), leaderships):
        await until(lambda: leaderships.acting, "the leadership")
    assert not leaderships.acting
    assert shared.record is not None
    assert (shared.record.holder, shared.record.epoch, shared.record.previous) == ("", 1, "one")


async def test_the_standby_takes_over_with_a_new_epoch() -> None:
    """One waits while the other holds the lease, and succeeds it."""
    shared, first, second = Shared(), Leaderships(), Leaderships()
    standby = a_leader(shared, "two")
    async with running(a_leader(shared, "one"), first):
        await until(lambda: first.acting, "the first leadership")
        waiting = asyncio.create_task(standby.run(second.lead))
        await until(lambda: standby.holder == "one", "knowing the holder")
        assert standby.valid_for() is None
        assert not second.acting
    await until(lambda: second.acting, "the second leadership")
    assert second.epochs == [2]
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_cut_off_it_steps_down_and_recovers() -> None:
    """It acts for as long as it is certain, no longer; when the record is available again, it acts again."""
    shared, leaderships = Shared(), Leaderships()
    leader = a_leader(shared, "one")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        shared.cut = True
        await until(lambda: not leaderships.acting, "stepping down")
        assert leader.valid_for() is None
        assert "cut off" in leader.reason or "not renewed" in leader.reason
        shared.cut = False
        await until(lambda: leaderships.acting, "another leadership")
        assert leaderships.epochs == [1, 2]


async def test_a_brief_outage_changes_nothing() -> None:
    """One failed renewal neither demotes it nor persists as an error."""
    shared, leaderships = Shared(), Leaderships()
    leader = a_leader(shared, "one")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        shared.cut = True
        await asyncio.sleep(0.15)
        shared.cut = False
        version = shared.version
        await until(lambda: shared.version > version + 2, "renewals")
        assert leaderships.epochs == [1]


async def test_a_taken_lease_ends_the_term_at_once() -> None:
    """When another machine wrote the record, the term ends."""
    shared, leaderships = Shared(), Leaderships()
    leader = a_leader(shared, "one")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        thief = Record(holder="thief", nonce="t", epoch=9, ttl=60)
        await shared.write(thief, str(shared.version))
        await until(lambda: not leaderships.acting, "the end of the leadership")
        await until(lambda: leader.holder == "thief", "knowing the thief")


async def test_a_file_lease_succeeds_a_dead_process_at_once(tmp_path: Path) -> None:
    """On one machine the lock proves that the predecessor is dead."""
    path = tmp_path / "lease.json"
    await FileLease(path, "dead").write(Record(holder="me", nonce="dead", epoch=4, ttl=600), None)
    leaderships = Leaderships()
    async with running(a_leader(FileLease(path, "me"), "me"), leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        assert leaderships.epochs == [5]


async def test_a_damaged_lease_file_does_not_prevent_an_acquire(tmp_path: Path) -> None:
    """It is written again."""
    path = tmp_path / "lease.json"
    path.write_text("{")
    leaderships = Leaderships()
    async with running(a_leader(FileLease(path, "me"), "me"), leaderships):
        await until(lambda: leaderships.acting, "the leadership")


async def test_a_lost_answer_changes_nothing() -> None:
    """The renewal was written, its answer was lost: the next is refused, and the record is still ours."""
    shared, leaderships = Shared(), Leaderships()
    async with running(a_leader(shared, "one"), leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        shared.lose_answers = 1
        await until(lambda: not shared.lose_answers, "a renewal")
        version = shared.version
        await until(lambda: shared.version > version + 2, "renewals")
        assert leaderships.epochs == [1]


async def test_a_lost_answer_to_an_acquire_is_corrected_at_once() -> None:
    """The record is ours, but the answer was lost; the next epoch begins without waiting for the ttl."""
    shared, leaderships = Shared(), Leaderships()
    shared.lose_answers = 1
    async with running(a_leader(shared, "one"), leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        assert leaderships.epochs == [2]


def answer_late(
    monkeypatch: pytest.MonkeyPatch, shared: Shared, then: Record | None = None
) -> None:
    """The first acquire is answered when its permission is over; another instance may write `then` before."""
    write, clock = shared.write, SystemClock()

    async def late(record: Record, expected: str | None) -> str:
        version = await write(record, expected)
        if expected is None:
            begun = clock.monotonic()
            await until(lambda: clock.monotonic() - begun > TERMS.ttl, "the end of the right")
            if then is not None:
                await write(then, version)
        return version

    monkeypatch.setattr(shared, "write", late)


async def test_an_acquire_that_is_answered_late_begins_a_term(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its permission is over; it is renewed before anything begins, in the same epoch."""
    shared, leaderships = Shared(), Leaderships()
    answer_late(monkeypatch, shared)
    leader = a_leader(shared, "one")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        assert leader.valid_for() is not None
        assert leaderships.epochs == [1]


async def test_an_acquire_that_is_answered_late_may_be_overtaken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another instance acquired before the answer: this one holds nothing, and an operator can take the lease."""
    shared, leaderships = Shared(), Leaderships()
    answer_late(monkeypatch, shared, then=Record(holder="two", nonce="two", epoch=2, ttl=3600))
    leader = a_leader(shared, "one")
    async with running(leader, leaderships):
        await until(lambda: leader.holder == "two", "the other holder")
        assert leader.epoch is None
        leader.take("root", force=True)
        await until(lambda: leaderships.acting, "the leadership")
        assert leaderships.epochs == [3]


async def test_a_term_that_cannot_begin_leaves_it_passive_and_is_retried() -> None:
    """The store is unavailable just then: no crash, the reason is reported, the record is free for others meanwhile."""
    shared, leaderships, away = Shared(), Leaderships(), asyncio.Event()
    away.set()

    @asynccontextmanager
    async def lead(epoch: int) -> AsyncIterator[None]:
        if away.is_set():
            raise Unavailable("the store is away")
        async with leaderships.lead(epoch):
            yield

    leader = a_leader(shared, "one")
    task = asyncio.create_task(leader.run(lead))
    await until(
        lambda: (
            "the store is away" in leader.reason
            and shared.record is not None
            and not shared.record.holder
        ),
        "the release, with its reason",
    )
    away.clear()
    await until(lambda: leaderships.acting, "the leadership")
    assert leaderships.epochs[0] > 1
    task.cancel()
    await asyncio.wait([task])


async def test_an_operator_takes_it_by_force() -> None:
    """Its holder detects it at the next renewal; the history shows by whose order."""
    shared, first, second = Shared(), Leaderships(), Leaderships()
    standby = a_leader(shared, "two")
    async with running(a_leader(shared, "one"), first), running(standby, second):
        await until(lambda: first.acting and standby.holder == "one", "the first leadership")
        with pytest.raises(Conflict):
            await shared.write(Record(holder="late", nonce="l", epoch=1, ttl=1), "0")
        standby.take("root", force=True)
        await until(lambda: second.acting and not first.acting, "the second leadership")
        assert (first.epochs, second.epochs) == ([1], [2])
        newest, oldest = await standby.history(9)
        assert newest.reason == oldest.end == "taken from one by force, by order of root"
        with pytest.raises(Conflict, match="already"):
            standby.take("root", force=True)


async def test_an_operator_releases_it() -> None:
    """The term ends, the record is free, and this instance does not acquire for a while, unless ordered to."""
    shared, leaderships = Shared(), Leaderships()
    leader = a_leader(shared, "one")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        leader.let_go("root", 60)
        leader.let_go("root", 60)
        await until(lambda: not leaderships.acting and "tries again" in leader.reason, "the end")
        assert shared.record is not None
        assert (shared.record.holder, shared.record.reason) == ("", "released by order of root")
        leader.take("root", force=False)
        await until(lambda: leaderships.acting, "another leadership")
        assert [tenure.end for tenure in await leader.history(9)] == [
            "",
            "released by order of root",
        ]


async def test_a_standby_instance_has_nothing_to_release() -> None:
    """The error names the holder; an order to take it by force can still be withdrawn."""
    shared, first, second = Shared(), Leaderships(), Leaderships()
    standby = a_leader(shared, "two")
    async with running(a_leader(shared, "one"), first), running(standby, second):
        await until(lambda: first.acting and standby.holder == "one", "the first leadership")
        with pytest.raises(Conflict, match="one holds epoch 1"):
            standby.let_go("root", 60)
        standby.take("root", force=True)
        standby.let_go("root", 60)
        await until(lambda: standby.reason.startswith("one holds epoch"), "another check")
        assert (first.acting, second.epochs) == (True, [])


async def test_an_operator_takes_it_back_while_the_term_ends() -> None:
    """The order applies as soon as the lease is released; it need not be repeated."""
    shared, leaderships = Shared(), Leaderships()
    leader = a_leader(shared, "one")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        leader.let_go("root", 60)
        leader.take("root", force=False)
        await until(
            lambda: leaderships.epochs == [1, 2] and leaderships.acting, "another leadership"
        )
        assert [tenure.end for tenure in await leader.history(9)] == [
            "",
            "released by order of root",
        ]


async def test_the_file_remembers_its_holders(tmp_path: Path) -> None:
    """Holder, time, reason and end; a damaged line is left out."""
    path = tmp_path / "lease.json"
    leaderships = Leaderships()
    async with running(a_leader(FileLease(path, "one"), "one"), leaderships):
        await until(lambda: leaderships.acting, "the leadership")
    with (tmp_path / "lease-history.jsonl").open("a") as file:
        file.write("{\n")
    leader = a_leader(FileLease(path, "two"), "two")
    async with running(leader, leaderships):
        await until(lambda: len(leaderships.epochs) == 2, "the second leadership")
        newest, oldest = await leader.history(9)
    assert (oldest.holder, oldest.reason, oldest.end) == (
        "one",
        "there is no holder yet",
        "stopped",
    )
    assert (newest.holder, newest.previous, newest.reason) == ("two", "one", "epoch 1 was released")


class Broken(Shared):
    """A record that fails as `fault` specifies: `read`, `write` or `changed`, with unexpected errors."""

    fault = ""

    async def read(self) -> Seen | None:
        if self.fault == "read":
            raise ZeroDivisionError
        return await super().read()

    async def write(self, record: Record, version: str | None) -> str:
        if self.fault == "write":
            raise KeyError("x")
        return await super().write(record, version)

    async def changed(self, timeout: float) -> None:
        if self.fault == "changed":
            raise TypeError
        await super().changed(timeout)


@pytest.mark.parametrize("fault", ["read", "write", "changed"])
async def test_an_unexpected_error_is_counted_and_tried_again(fault: str) -> None:
    """It is standby, reports why, can be stopped, and acquires once the error is over."""
    broken, leaderships = Broken(), Leaderships()
    if fault == "changed":
        other = lease.acquired(
            None, "two", "two", TERMS, SystemClock().wall_ms(), reason="", floor=0
        )
        await broken.write(other, None)
    broken.fault = fault
    loops = Loops(SystemClock())
    leader = a_leader(broken, "one", loops=loops)
    async with running(leader, leaderships):
        await until(lambda: loops.faults >= 1, "the error")
        assert "an internal error" in leader.reason
        assert leader.settled.is_set()
        assert [loop.name for loop in loops.failing] == ["leader"]
        broken.fault = ""
        broken.record = None
        await until(lambda: leaderships.acting, "the leadership")
        await until(lambda: not loops.failing, "that all is well")
    assert not leaderships.acting


async def test_a_standby_that_can_read_the_lease_again_is_well() -> None:
    """It makes progress although it acquires nothing."""
    broken, leaderships, loops = Broken(), Leaderships(), Loops(SystemClock())
    await broken.write(Record(holder="two", nonce="two", epoch=1, ttl=3600), None)
    broken.fault = "read"
    async with running(a_leader(broken, "one", loops=loops), leaderships):
        await until(lambda: loops.failing, "the error")
        broken.fault = ""
        await until(lambda: not loops.failing, "that all is well")
        assert leaderships.epochs == []


async def test_a_renewal_that_fails_unexpectedly_is_retried_within_the_permission() -> None:
    """Another attempt follows; only the end of the permission ends the term."""
    broken, leaderships = Broken(), Leaderships()
    clock, loops = SystemClock(), Loops(SystemClock())
    terms = LeaseTerms(ttl=60, renew_every=0.1, margin=1)
    leader = Leader(
        broken,
        "one",
        "one",
        terms,
        clock,
        Bus(clock),
        floor=0,
        on_renewed=lambda s: None,
        loops=loops,
    )
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        broken.fault = "write"
        await until(lambda: loops.faults >= 2, "two tries")
        broken.fault = ""
        await until(lambda: not loops.failing, "a renewal")
        assert leaderships.epochs == [1]


async def test_a_term_whose_renewals_fail_ends_with_the_permission() -> None:
    """A new term begins when they succeed again."""
    broken, leaderships = Broken(), Leaderships()
    leader = a_leader(broken, "one")
    async with running(leader, leaderships):
        await until(lambda: leaderships.acting, "the leadership")
        broken.fault = "write"
        await until(lambda: not leaderships.acting, "the end of the leadership")
        broken.fault = ""
        await until(lambda: leaderships.acting, "another leadership")


@pytest.mark.parametrize("when", ["begin", "end", "while"])
async def test_a_term_that_fails_unexpectedly_releases_the_lease(when: str) -> None:
    """The record is free for others, and this instance tries again; a stop in that state ends."""
    shared, tries = Shared(), 0
    loops = Loops(SystemClock())
    leader = a_leader(shared, "one", loops=loops)

    @asynccontextmanager
    async def lead(epoch: int) -> AsyncIterator[None]:
        nonlocal tries
        tries += 1
        if when == "begin":
            raise ZeroDivisionError
        if when == "while":
            leader.let_go("me", 0)
        try:
            yield
        finally:
            if when == "end":
                raise KeyError("x")
            raise ExceptionGroup("x", [KeyError("x")])

    task = asyncio.create_task(leader.run(lead))
    if when == "end":
        await until(lambda: leader.active, "the leadership")
    else:
        await until(
            lambda: tries >= 2 and "an internal error" in leader.reason, "two tries, and why"
        )
        assert loops.stuck or loops.failing
    task.cancel()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait([task])
    assert task.cancelled()
    assert loops.faults >= 1
    assert shared.record is not None
    assert shared.record.holder == ""
