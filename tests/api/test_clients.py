"""Places and memory on the control socket: who gives way to whom."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.api.control.clients import Budget, Clients, ControlClient, UnreadReplies
from wad.core.errors import WadError

ROOT, ANA, BOB = 0, 1000, 1001


class Door:
    """Places whose clock a test sets; it notes who had to go."""

    def __init__(self, most: int) -> None:
        self.now = 100.0
        self.clients = Clients(most, lambda: self.now)
        self.gone: list[str] = []

    def enter(
        self, uid: int, name: str, *, greeted: bool = True, busy: bool = False
    ) -> ControlClient | None:
        """One more, a second later."""
        self.now += 1

        def leave(_why: WadError) -> None:
            self.gone.append(name)

        client = self.clients.enter(uid, leave)
        if client is not None:
            client.greeted = greeted
            if busy:
                self.clients.begin(client)
        return client


def test_the_silent_go_first_then_the_idle() -> None:
    """Each the longest there."""
    door = Door(4)
    door.enter(ANA, "idle 1")
    door.enter(ANA, "silent 1", greeted=False)
    door.enter(ANA, "busy", busy=True)
    door.enter(ANA, "silent 2", greeted=False)
    door.now += 5
    for number in range(5):
        door.enter(ANA, f"new {number}", busy=True)
    assert door.gone == ["silent 1", "silent 2", "idle 1"]
    assert len(door.clients) == 4


def test_who_has_just_come_is_left_time_for_its_hello() -> None:
    """A burst of clients does not throw itself out."""
    door = Door(1)
    door.enter(ANA, "first", greeted=False)
    door.now -= 0.5
    assert door.enter(ANA, "second") is None
    assert door.gone == []


def test_idle_is_who_has_had_no_request_for_longest() -> None:
    """The end of the last one counts."""
    door = Door(2)
    first, second = door.enter(ANA, "first", busy=True), door.enter(ANA, "second")
    assert first is not None
    assert second is not None
    door.now += 10
    door.clients.done(first)
    door.enter(ANA, "third")
    assert door.gone == ["second"]


def test_no_user_takes_all_places() -> None:
    """Whoever has fewer gets in, also where all of another's are in use."""
    door = Door(10)
    for number in range(10):
        door.enter(ANA, f"ana {number}", busy=True)
    assert door.enter(ANA, "one too many", busy=True) is None
    assert door.enter(ROOT, "root", busy=True) is not None
    assert door.enter(BOB, "bob", busy=True) is not None
    assert door.gone == ["ana 9", "ana 8"]


def test_a_place_that_was_left_is_free() -> None:
    """Leaving twice is no harm."""
    door = Door(1)
    client = door.enter(ANA, "first", busy=True)
    assert client is not None
    door.clients.left(client)
    door.clients.left(client)
    assert door.enter(ANA, "second") is not None


@given(st.lists(st.tuples(st.sampled_from([ROOT, ANA, BOB]), st.booleans(), st.booleans()), max_size=60))  # fmt: skip
def test_places_are_bounded_and_fair(comers: list[tuple[int, bool, bool]]) -> None:
    """Never more than there are; who is refused has about as many as anybody."""
    door = Door(9)
    inside: Counter[int] = Counter()
    for number, (uid, greeted, busy) in enumerate(comers):
        client = door.enter(uid, str(number), greeted=greeted, busy=busy)
        inside = Counter(each.uid for each in door.clients._connected)
        assert len(door.clients) <= 9
        if client is None:
            assert inside[uid] + 1 >= max(inside.values())


async def test_a_budget_is_waited_for() -> None:
    """In the order of coming; one owner has half of it."""
    budget = Budget(100)
    await budget.take(ANA, 50)
    second = asyncio.create_task(budget.take(ANA, 10))
    third = asyncio.create_task(budget.take(ROOT, 50))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not second.done()
    assert third.done()
    await third  # root's half is not ana's to fill
    budget.give(ANA, 50)
    await second
    assert budget.used == 60


async def test_who_gives_up_waiting_takes_nothing() -> None:
    """Also in the moment in which it was admitted."""
    budget = Budget(100)
    await budget.take(ANA, 50)
    waiting = asyncio.create_task(budget.take(ANA, 50))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    late = asyncio.create_task(budget.take(ANA, 50))
    await asyncio.sleep(0)
    budget.give(ANA, 50)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert budget.used == 0


def test_who_lets_most_wait_is_hung_up_on() -> None:
    """And what waited for it counts no more."""
    backlog, gone = UnreadReplies(100), []

    def small() -> None:
        gone.append("small")

    def large() -> None:
        gone.append("large")

    backlog.add(small, 30)
    backlog.add(large, 60)
    assert gone == []
    backlog.add(small, 20)
    assert gone == ["large"]
    assert backlog.total == 50
    backlog.add(small, -50)
    assert backlog.total == 0
