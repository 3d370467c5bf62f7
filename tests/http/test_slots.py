"""Who may be connected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from wad.http.server.limits import HttpLimits
from wad.http.server.slots import NEVER, Slots


@dataclass(eq=False)
class Guest:
    """A connection that notes what is asked of it."""

    since: float
    unsent: int = 0
    ended: list[str] = field(default_factory=list)

    def go_on(self) -> None:
        """Its next request may begin."""
        self.ended.append("went on")

    def check(self, now: float) -> None:
        """A look at the clock."""
        self.ended.append(f"checked at {now:g}")

    def give_way(self) -> None:
        """Others need the place."""
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
def places(turns: Soon) -> Slots:
    """Three, and two in the reserve."""
    return Slots(
        HttpLimits(connections=3, reserve=2, unsent_bytes=100),
        frozenset(),
        lambda: NOW,
        turns.append,
    )


def crowd(places: Slots, *since: float) -> list[Guest]:
    """Guests that came one after the other."""
    guests = [Guest(each) for each in since]
    for guest in guests:
        assert places.enter(guest)
    return guests


def test_whoever_is_longest_without_a_request_goes(places: Slots) -> None:
    """Whoever is being answered stays, however long."""
    first, second, third = crowd(places, NEVER, 50, 40)
    (fourth,) = crowd(places, NOW)
    assert [guest.ended for guest in (first, second, third, fourth)] == [[], [], ["gave way"], []]
    assert not places.is_reserve(fourth)
    assert places.taken == 3


def test_a_burst_does_not_push_itself_out(places: Slots) -> None:
    """Whoever has just come has the time of a request; later ones get into the reserve."""
    first = crowd(places, NOW, NOW - 0.5, NEVER)
    (late,) = crowd(places, NOW)
    assert places.is_reserve(late)
    assert not any(guest.ended for guest in first)


def test_the_reserve_is_for_who_asks_at_once(places: Slots) -> None:
    """There the newest comer is preferred; when all in it are being answered there is no more."""
    crowd(places, NEVER, NEVER, NEVER)
    silent, busy = crowd(places, NOW - 0.1, NEVER)
    (newer,) = crowd(places, NEVER)
    assert silent.ended == ["gave way"]
    assert not places.enter(Guest(NOW))
    assert busy.ended == newer.ended == []
    assert places.counters.displaced == 2


def test_a_place_is_free_when_its_client_left(places: Slots) -> None:
    """And all are when the last has."""
    guests = crowd(places, NEVER, NEVER, NEVER, NEVER)
    assert places.is_reserve(guests[3])
    places.left(guests[0])
    assert not places.is_reserve(crowd(places, NEVER)[0])
    assert not places.empty.is_set()
    places.end()
    assert places.empty.is_set()
    assert places.taken == 0


def test_whoever_lets_most_wait_is_cut_off(places: Slots) -> None:
    """When all answers that nobody takes are too much together."""
    little, much, flowing = crowd(places, NEVER, NEVER, NEVER)
    for guest, unsent in ((flowing, 70), (little, 20)):
        guest.unsent = unsent
        places.stalled(guest)
    places.flows(flowing)
    much.unsent = 90
    places.stalled(much)
    assert (little.ended, much.ended, flowing.ended) == ([], ["aborted"], [])
    assert places.unsent == 20


def test_a_crowd_that_left_is_told_once() -> None:
    """A few that come and go are none."""
    places = Slots(HttpLimits(), frozenset(), lambda: NOW, lambda _: None)
    guests = crowd(places, *[NEVER] * 60)
    assert not places.crowd_left()
    for guest in guests[15:]:
        places.left(guest)
    assert places.crowd_left()
    assert not places.crowd_left()
    places.end()
    assert not places.crowd_left()


def test_requests_that_came_together_take_turns(places: Slots, turns: Soon) -> None:
    """A few in a turn of the loop, in the order in which they came, until all have begun."""
    guests = [Guest(NOW) for _ in range(20)]
    for guest in guests:
        places.wait(guest)
    for begun in (8, 16, 20):
        (turn,) = turns
        turns.clear()
        turn()
        assert [bool(guest.ended) for guest in guests] == [number < begun for number in range(20)]
    assert turns == []


def test_all_are_told_of_the_end(places: Slots) -> None:
    """And whoever comes later can see it."""
    guests = crowd(places, NEVER, 50)
    places.stop()
    assert [guest.ended for guest in guests] == [["stopped"], ["stopped"]]
    assert places.stopping


def test_the_clock_is_looked_at_for_each(places: Slots) -> None:
    """Those in the reserve, too."""
    guests = crowd(places, NEVER, NEVER, NEVER, NEVER)
    places.sweep()
    assert all(guest.ended == ["checked at 100"] for guest in guests)
