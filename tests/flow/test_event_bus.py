"""The event bus."""

from __future__ import annotations

from wad.flow.event_bus import Bus
from wad.lib.clock import SystemClock


async def test_the_history_and_later_events() -> None:
    """The last ones first, then each new one."""
    bus = Bus(SystemClock())
    for number in range(5):
        bus.publish("state", f"old {number}")
    async with bus.follow(last=2) as happenings:
        bus.publish("state", "new", account="shop", qr="x")
        seen = [await anext(happenings) for _ in range(3)]
    assert [happening.text for happening in seen] == ["old 3", "old 4", "new"]
    assert (seen[2].account, seen[2].detail) == ("shop", {"qr": "x"})


async def test_without_following_it_ends() -> None:
    """Only kept events."""
    bus = Bus(SystemClock())
    bus.publish("state", "one")
    async with bus.follow(last=10, live=False) as happenings:
        assert [happening.text async for happening in happenings] == ["one"]


async def test_a_slow_reader_gets_the_number_of_missed_events() -> None:
    """It delays no other follower, and memory is bounded."""
    bus = Bus(SystemClock())
    async with bus.follow() as happenings:
        for number in range(1500):
            bus.publish("state", str(number))
        seen = [(await anext(happenings)).text for _ in range(1001)]
    assert seen[:1000] == [str(number) for number in range(1000)]
    assert seen[1000] == "500 events were missed"


async def test_the_history_is_bounded() -> None:
    """The oldest is dropped."""
    bus = Bus(SystemClock())
    for number in range(1200):
        bus.publish("state", str(number))
    assert [bus.history[0].text, bus.history[-1].text, len(bus.history)] == ["200", "1199", 1000]
