"""However a leader ends, and whatever is pending then, the record is free afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.leaders import Leaderships, Shared, a_leader
from tests.support.waiting import until
from wad.core.errors import Unavailable
from wad.core.lease import LeaseTerms, Record
from wad.flow.leadership.leader import Leader

LONG = LeaseTerms(ttl=60, renew_every=0.05, margin=20)
"""So that nothing in these tests depends on the machine's speed: only the renewals are frequent."""


class Distant(Shared):
    """A record whose requests and answers can be delayed.  A sent request arrives, even without a caller."""

    def __init__(self) -> None:
        super().__init__()
        self.requests, self.answers = asyncio.Event(), asyncio.Event()
        self.requests.set()
        self.answers.set()
        self.under_way = 0
        self.served = 0

    async def write(self, record: Record, expected: str | None) -> str:
        """Compare and set, like on a separate thread."""
        return await asyncio.shield(asyncio.create_task(self._serve(record, expected)))

    async def _serve(self, record: Record, expected: str | None) -> str:
        self.under_way += 1
        await self.requests.wait()
        try:
            return await super().write(record, expected)
        finally:
            self.under_way -= 1
            self.served += 1
            await self.answers.wait()

    @property
    def holder(self) -> str | None:
        """Its holder."""
        return self.record.holder if self.record is not None else None


def with_long_terms(shared: Shared, name: str = "one") -> Leader:
    """A leader that renews all the time and waits long for answers."""
    leader = a_leader(shared, name)
    leader._terms = LONG
    return leader


async def stopped(task: asyncio.Task[None], *, times: int = 1) -> None:
    """End it like the daemon does, perhaps more than once."""
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def let_go(leader: Leader, task: asyncio.Task[None]) -> None:
    """An operator's order."""
    leader.let_go("root", 3600)


def stop(leader: Leader, task: asyncio.Task[None]) -> None:
    """SIGINT."""
    task.cancel()


ENDS = pytest.mark.parametrize("end", [let_go, stop])
End = Callable[[Leader, "asyncio.Task[None]"], None]


@ENDS
@pytest.mark.parametrize("way", ["requests", "answers"])
async def test_an_end_during_a_renewal_releases(end: End, way: str) -> None:
    """Whether the request or the answer is still pending, and with or without an order."""
    shared, leaderships = Distant(), Leaderships()
    leader = with_long_terms(shared)
    task = asyncio.create_task(leader.run(leaderships.lead))
    await until(lambda: leaderships.acting and shared.served > 2, "renewals")
    gate: asyncio.Event = getattr(shared, way)
    gate.clear()
    served = shared.served
    await until(lambda: shared.under_way or shared.served > served, "a renewal under way")
    end(leader, task)
    await until(lambda: not leaderships.acting, "the end of the leadership")
    gate.set()
    await until(lambda: shared.holder == "", "the release")
    task.cancel()
    await asyncio.wait([task])
    assert (shared.holder, shared.record and shared.record.epoch) == ("", 1)


@pytest.mark.parametrize("way", ["requests", "answers"])
async def test_an_end_during_an_acquire_releases(way: str) -> None:
    """It may be ours before the answer arrives."""
    shared, leaderships = Distant(), Leaderships()
    gate: asyncio.Event = getattr(shared, way)
    gate.clear()
    task = asyncio.create_task(with_long_terms(shared).run(leaderships.lead))
    await until(lambda: shared.under_way or shared.served, "the acquire")
    await stopped(task)
    gate.set()
    await asyncio.wait([task])
    assert shared.holder == ""
    assert not leaderships.epochs


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("way", ["requests", "answers"])
async def test_an_order_during_an_acquire_releases(way: str, lost: bool) -> None:
    """`lease take` and at once `lease release`: nothing acts, even if the answer to the acquire is lost."""
    shared, leaderships = Distant(), Leaderships()
    gate: asyncio.Event = getattr(shared, way)
    gate.clear()
    shared.lose_answers = int(lost)
    leader = with_long_terms(shared)
    task = asyncio.create_task(leader.run(leaderships.lead))
    await until(lambda: shared.under_way or shared.served, "the acquire")
    leader.let_go("root", 3600)
    gate.set()
    await until(lambda: shared.holder == "" and "tries again" in leader.reason, "the release")
    assert not leaderships.epochs
    leader.take("root", force=False)
    await until(lambda: leaderships.acting, "a term by a later order")
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("way", ["requests", "answers"])
async def test_an_order_during_a_takeover_releases(way: str) -> None:
    """The record still names the holder whose lease is over."""
    shared, leaderships = Distant(), Leaderships()
    shared.record = Record(holder="two", nonce="two", epoch=1, ttl=0)
    gate: asyncio.Event = getattr(shared, way)
    gate.clear()
    leader = with_long_terms(shared)
    task = asyncio.create_task(leader.run(leaderships.lead))
    await until(lambda: shared.under_way or shared.served, "the acquire")
    leader.let_go("root", 3600)
    gate.set()
    await until(lambda: shared.holder == "" and "tries again" in leader.reason, "the release")
    task.cancel()
    await asyncio.wait([task])
    assert not leaderships.epochs


async def test_an_end_after_a_lost_answer_releases() -> None:
    """The last renewal was written, and its answer never arrived."""
    shared, leaderships = Distant(), Leaderships()
    task = asyncio.create_task(with_long_terms(shared).run(leaderships.lead))
    await until(lambda: leaderships.acting, "the leadership")
    shared.lose_answers = 1
    await until(lambda: not shared.lose_answers, "the renewal")
    await stopped(task)
    await asyncio.wait([task])
    assert shared.holder == ""


async def test_an_end_after_the_lost_answer_to_an_acquire_releases() -> None:
    """We are standby, as far as we know."""
    shared, leaderships = Distant(), Leaderships()
    shared.lose_answers = 1
    task = asyncio.create_task(with_long_terms(shared).run(leaderships.lead))
    await until(lambda: shared.record is not None, "the acquire")
    await stopped(task)
    await asyncio.wait([task])
    assert shared.holder == ""


async def test_a_renewal_that_never_arrives_does_not_keep_it() -> None:
    """Its answer is waited for, but not for the whole time: then the current record is freed."""
    shared, leaderships = Distant(), Leaderships()
    leader = with_long_terms(shared)
    leader._terms = LeaseTerms(ttl=60, renew_every=0.05, margin=0.5)
    task = asyncio.create_task(leader.run(leaderships.lead))
    await until(lambda: leaderships.acting, "the leadership")
    shared.requests.clear()
    await until(lambda: shared.under_way, "a renewal under way")
    await stopped(task)
    stuck, shared.requests = shared.requests, asyncio.Event()
    shared.requests.set()  # the next ones pass
    await asyncio.wait([task])
    assert shared.holder == ""
    stuck.set()
    await until(lambda: not shared.under_way, "the late renewal")
    assert shared.holder == ""


async def test_an_end_that_is_ordered_again_and_again_releases() -> None:
    """Each cancels the previous one's work."""
    shared, leaderships = Distant(), Leaderships()
    task = asyncio.create_task(with_long_terms(shared).run(leaderships.lead))
    await until(lambda: leaderships.acting, "the leadership")
    shared.answers.clear()
    served = shared.served
    await until(lambda: shared.served > served, "a renewal")
    await stopped(task, times=5)
    assert not task.done()
    shared.answers.set()
    await asyncio.wait([task])
    assert shared.holder == ""
    assert task.cancelled()


async def test_the_release_is_tried_again() -> None:
    """A record that is unavailable for a moment, and an answer that is lost."""
    shared, leaderships = Distant(), Leaderships()
    task = asyncio.create_task(with_long_terms(shared).run(leaderships.lead))
    await until(lambda: leaderships.acting, "the leadership")
    shared.cut = True
    shared.lose_answers = 1
    await stopped(task)
    await until(lambda: not leaderships.acting, "the end of the leadership")
    shared.cut = False
    await asyncio.wait([task])
    assert shared.holder == ""
    assert shared.lose_answers == 0


async def test_a_record_taken_by_another_holder_is_not_freed() -> None:
    """The pending renewal was refused: another holder's record is not freed."""
    shared, leaderships = Distant(), Leaderships()
    task = asyncio.create_task(with_long_terms(shared).run(leaderships.lead))
    await until(lambda: leaderships.acting, "the leadership")
    shared.requests.clear()
    await until(lambda: shared.under_way, "a renewal under way")
    thief = Record(holder="thief", nonce="t", epoch=9, ttl=60)
    await Shared.write(shared, thief, str(shared.version))
    await stopped(task)
    shared.requests.set()
    await asyncio.wait([task])
    assert shared.holder == "thief"


async def test_a_standby_ends_at_once() -> None:
    """A standby whose record is unavailable has nothing to free, and does not wait for it."""
    shared, leaderships = Distant(), Leaderships()
    await shared.write(Record(holder="other", nonce="o", epoch=1, ttl=600), None)
    leader = with_long_terms(shared)
    task = asyncio.create_task(leader.run(leaderships.lead))
    await until(lambda: leader.holder == "other", "standing by")
    read = shared.read

    async def away() -> object:
        raise Unavailable("away")

    shared.read = away  # type: ignore[assignment,method-assign]
    await stopped(task)
    await asyncio.wait([task])
    shared.read = read  # type: ignore[method-assign]
    assert shared.holder == "other"
