"""Connection slots and memory on the control socket: which client is disconnected for a new one."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.api.control.clients import Budget, Clients, ControlClient, UnreadReplies
from wad.core.errors import WadError

ROOT, ANA, BOB = 0, 1000, 1001


class Listener:
    """Slots whose clock a test sets; it notes which clients were disconnected."""

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
    listener = Listener(4)
    listener.enter(ANA, "idle 1")
    listener.enter(ANA, "silent 1", greeted=False)
    listener.enter(ANA, "busy", busy=True)
    listener.enter(ANA, "silent 2", greeted=False)
    listener.now += 5
    for number in range(5):
        listener.enter(ANA, f"new {number}", busy=True)
    assert listener.gone == ["silent 1", "silent 2", "idle 1"]
    assert len(listener.clients) == 4


def test_a_new_client_has_time_for_its_hello() -> None:
    """A burst of clients does not throw itself out."""
    listener = Listener(1)
    listener.enter(ANA, "first", greeted=False)
    listener.now -= 0.5
    assert listener.enter(ANA, "second") is None
    assert listener.gone == []


def test_the_longest_idle_client_is_disconnected() -> None:
    """The end of the last one counts."""
    listener = Listener(2)
    first, second = listener.enter(ANA, "first", busy=True), listener.enter(ANA, "second")
    assert first is not None
    assert second is not None
    listener.now += 10
    listener.clients.done(first)
    listener.enter(ANA, "third")
    assert listener.gone == ["second"]


def test_no_user_takes_all_slots() -> None:
    """A user with fewer connections is admitted, also where all connections of another are in use."""
    listener = Listener(10)
    for number in range(10):
        listener.enter(ANA, f"ana {number}", busy=True)
    assert listener.enter(ANA, "one too many", busy=True) is None
    assert listener.enter(ROOT, "root", busy=True) is not None
    assert listener.enter(BOB, "bob", busy=True) is not None
    assert listener.gone == ["ana 9", "ana 8"]


def test_a_slot_that_was_left_is_free() -> None:
    """Leaving twice does no harm."""
    listener = Listener(1)
    client = listener.enter(ANA, "first", busy=True)
    assert client is not None
    listener.clients.left(client)
    listener.clients.left(client)
    assert listener.enter(ANA, "second") is not None


@given(st.lists(st.tuples(st.sampled_from([ROOT, ANA, BOB]), st.booleans(), st.booleans()), max_size=60))  # fmt: skip
def test_slots_are_bounded_and_fair(arrivals: list[tuple[int, bool, bool]]) -> None:
    """Never more than the limit; a user that is refused has about as many as any other."""
    listener = Listener(9)
    inside: Counter[int] = Counter()
    for number, (uid, greeted, busy) in enumerate(arrivals):
        client = listener.enter(uid, str(number), greeted=greeted, busy=busy)
        inside = Counter(each.uid for each in listener.clients._connected)
        assert len(listener.clients) <= 9
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


async def test_a_client_that_gives_up_waiting_takes_nothing() -> None:
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


def test_the_client_with_most_unread_bytes_is_disconnected() -> None:
    """The bytes that waited for it are not counted any more."""
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
