"""The slots for connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wad.http.server.limits import HttpLimits
from wad.http.server.slots import NEVER, Slots


@dataclass(eq=False)
class Guest:
    """A connection that records the calls to it."""

    since: float
    unsent: int = 0
    ended: list[str] = field(default_factory=list)

    def go_on(self) -> None:
        """Its next request may begin."""
        self.ended.append("went on")

    def check(self, now: float) -> None:
        """Check the deadlines."""
        self.ended.append(f"checked at {now:g}")

    def give_way(self) -> None:
        """Another client needs the slot."""
        self.ended.append("gave way")

    def stop(self) -> None:
        """The end of the server."""
        self.ended.append("stopped")

    def abort(self) -> None:
        """Cut off."""
        self.ended.append("aborted")


NOW = 100.0

Soon = list[Callable[[], object]]


@pytest.fixture
def turns() -> Soon:
    """What is called in the next turn of the loop."""
    return []


@pytest.fixture
def slots(turns: Soon) -> Slots:
    """Three slots, and two in the reserve."""
    return Slots(
        HttpLimits(connections=3, reserve=2, unsent_bytes=100),
        frozenset(),
        lambda: NOW,
        turns.append,
    )


def crowd(slots: Slots, *since: float) -> list[Guest]:
    """Guests that connected one after the other."""
    guests = [Guest(each) for each in since]
    for guest in guests:
        assert slots.enter(guest)
    return guests


def test_the_client_that_is_longest_without_a_request_is_disconnected(slots: Slots) -> None:
    """A client that is being answered stays, however long."""
    first, second, third = crowd(slots, NEVER, 50, 40)
    (fourth,) = crowd(slots, NOW)
    assert [guest.ended for guest in (first, second, third, fourth)] == [[], [], ["gave way"], []]
    assert not slots.is_reserve(fourth)
    assert slots.taken == 3


def test_a_burst_does_not_disconnect_its_own_clients(slots: Slots) -> None:
    """A new client has the time for a request; later ones get into the reserve."""
    first = crowd(slots, NOW, NOW - 0.5, NEVER)
    (late,) = crowd(slots, NOW)
    assert slots.is_reserve(late)
    assert not any(guest.ended for guest in first)


def test_the_reserve_is_for_immediate_requests(slots: Slots) -> None:
    """There the newest client is preferred; when all in it are being answered it is full."""
    crowd(slots, NEVER, NEVER, NEVER)
    silent, busy = crowd(slots, NOW - 0.1, NEVER)
    (newer,) = crowd(slots, NEVER)
    assert silent.ended == ["gave way"]
    assert not slots.enter(Guest(NOW))
    assert busy.ended == newer.ended == []
    assert slots.counters.displaced == 2


def test_a_slot_is_free_when_its_client_has_left(slots: Slots) -> None:
    """All are free when the last client has left."""
    guests = crowd(slots, NEVER, NEVER, NEVER, NEVER)
    assert slots.is_reserve(guests[3])
    slots.left(guests[0])
    assert not slots.is_reserve(crowd(slots, NEVER)[0])
    assert not slots.empty.is_set()
    slots.end()
    assert slots.empty.is_set()
    assert slots.taken == 0


def test_the_client_with_most_unread_bytes_is_cut_off(slots: Slots) -> None:
    """When all unread answers together exceed the limit."""
    little, much, flowing = crowd(slots, NEVER, NEVER, NEVER)
    for guest, unsent in ((flowing, 70), (little, 20)):
        guest.unsent = unsent
        slots.stalled(guest)
    slots.flows(flowing)
    much.unsent = 90
    slots.stalled(much)
    assert (little.ended, much.ended, flowing.ended) == ([], ["aborted"], [])
    assert slots.unsent == 20


def test_many_disconnected_clients_are_reported_once() -> None:
    """A few are not reported."""
    slots = Slots(HttpLimits(), frozenset(), lambda: NOW, lambda _: None)
    guests = crowd(slots, *[NEVER] * 60)
    assert not slots.crowd_left()
    for guest in guests[15:]:
        slots.left(guest)
    assert slots.crowd_left()
    assert not slots.crowd_left()
    slots.end()
    assert not slots.crowd_left()


def test_requests_that_arrived_together_take_turns(slots: Slots, turns: Soon) -> None:
    """A few per turn of the loop, in order of arrival, until all have begun."""
    guests = [Guest(NOW) for _ in range(20)]
    for guest in guests:
        slots.wait(guest)
    for begun in (8, 16, 20):
        (turn,) = turns
        turns.clear()
        turn()
        assert [bool(guest.ended) for guest in guests] == [number < begun for number in range(20)]
    assert turns == []


def test_all_connections_get_the_end(slots: Slots) -> None:
    """A later connection can see it."""
    guests = crowd(slots, NEVER, 50)
    slots.stop()
    assert [guest.ended for guest in guests] == [["stopped"], ["stopped"]]
    assert slots.stopping


def test_each_deadline_is_checked(slots: Slots) -> None:
    """Those in the reserve as well."""
    guests = crowd(slots, NEVER, NEVER, NEVER, NEVER)
    slots.sweep()
    assert all(guest.ended == ["checked at 100"] for guest in guests)
