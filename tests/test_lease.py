"""The pure lease: unit tests of the rules, and worlds in which two instances must never both act."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core import lease
from wad.core.errors import BadConfig
from wad.core.lease import Act, Held, Record, Seen, Terms

TERMS = Terms(ttl=15, renew_every=5, margin=3)


def a_record(holder: str = "other", epoch: int = 7) -> Record:
    """Somebody's record."""
    return Record(holder=holder, nonce="n", epoch=epoch, ttl=15)


@pytest.mark.parametrize(
    ("ttl", "every", "margin"), [(0, 5, 3), (15, 7, 3), (15, 5, 0), (10, 5, 3)]
)
def test_terms_that_cannot_work_are_refused(ttl: float, every: float, margin: float) -> None:
    """Two lost renewals and the margin must fit into the ttl."""
    with pytest.raises(BadConfig):
        Terms(ttl, every, margin)


def test_no_record_is_acquired_at_once() -> None:
    """The first instance ever does not wait."""
    assert lease.decide_as_standby(None, "me", TERMS).act is Act.ACQUIRE


def test_a_fresh_record_of_another_is_respected() -> None:
    """It waits, and says for whom and how long."""
    decision = lease.decide_as_standby(Seen(a_record(), 4.0, "v"), "me", TERMS)
    assert decision.act is Act.WAIT
    assert decision.reason == "other holds epoch 7, 11.0 s left"


def test_a_record_that_ran_out_is_taken() -> None:
    """Its age is over its own ttl."""
    assert lease.decide_as_standby(Seen(a_record(), 15.0, "v"), "me", TERMS).act is Act.ACQUIRE


def test_a_released_record_is_taken_and_its_epoch_goes_on() -> None:
    """The fencing token never goes back, not over a release either."""
    free = lease.released(a_record(), 5)
    assert lease.decide_as_standby(Seen(free, 0.0, "v"), "me", TERMS).act is Act.ACQUIRE
    assert lease.acquired(Seen(free, 0.0, "v"), "me", "x", TERMS, 6).epoch == 8


def test_a_dead_holder_is_succeeded_at_once() -> None:
    """A holder whose lock on this machine is free does not have to run out."""
    assert (
        lease.decide_as_standby(Seen(a_record(), 0.0, "v", dead=True), "me", TERMS).act
        is Act.ACQUIRE
    )


def test_a_lost_record_does_not_take_the_epoch_back() -> None:
    """The store's newest epoch is the floor."""
    assert lease.acquired(None, "me", "x", TERMS, 0, floor=41).epoch == 42


def test_validity_counts_from_before_the_request() -> None:
    """However long the answer took, the right to act ends `ttl - margin` after the request left."""
    held = lease.held(a_record("me"), "v", 100.0, TERMS)
    assert lease.may_act(held, 111.9)
    assert not lease.may_act(held, 112.0)
    assert lease.decide_as_holder(held, 112.0).act is Act.STEP_DOWN


def test_it_renews_in_time() -> None:
    """Nothing to do before, a renewal when it is due."""
    held = lease.held(a_record("me"), "v", 100.0, TERMS)
    assert lease.decide_as_holder(held, 101.0) == lease.Decision(Act.WAIT, "holding epoch 7", 4.0)
    assert lease.decide_as_holder(held, 105.0).act is Act.RENEW


# --- worlds -------------------------------------------------------------------------------------


@dataclass
class Keeper:
    """The record's server: one record, a version, and its own clock."""

    record: Record | None = None
    version: int = 0
    written: float = 0.0

    def write(self, record: Record, expected: str | None, now: float) -> str | None:
        """Compare and set."""
        if expected != (str(self.version) if self.record is not None else None):
            return None
        self.record, self.version, self.written = record, self.version + 1, now
        return str(self.version)


@dataclass
class Instance:
    """One contender with a clock of its own that runs a little fast or slow."""

    name: str
    rate: float
    offset: float
    held: Held | None = None
    own: Record | None = None
    paused_until: float = 0.0
    wake: float = 0.0
    acted: list[tuple[float, int]] = field(default_factory=list)

    def clock(self, now: float) -> float:
        """Its own time."""
        return self.offset + now * self.rate


def turn(instance: Instance, keeper: Keeper, now: float, chance: random.Random) -> None:
    """One look of one instance; requests and answers may be lost."""
    mine = instance.clock(now)
    if instance.held is not None:
        decision = lease.decide_as_holder(instance.held, mine)
        if decision.act is Act.STEP_DOWN:
            instance.held = None
        elif decision.act is Act.RENEW and instance.own is not None:
            attempt(
                instance, keeper, lease.renewed(instance.own, 0), instance.held.version, now, chance
            )
        return
    if chance.random() < 0.1:
        return  # the read was lost
    seen = None
    if keeper.record is not None:
        seen = Seen(keeper.record, now - keeper.written, str(keeper.version))
    if lease.decide_as_standby(seen, instance.name, TERMS).act is Act.ACQUIRE:
        record = lease.acquired(seen, instance.name, instance.name, TERMS, 0)
        attempt(instance, keeper, record, seen.version if seen else None, now, chance)


def attempt(
    instance: Instance,
    keeper: Keeper,
    record: Record,
    expected: str | None,
    now: float,
    chance: random.Random,
) -> None:
    """A write whose request or answer may be lost, or whose answer comes late."""
    if chance.random() < 0.15:
        return
    version = keeper.write(record, expected, now)
    if chance.random() < 0.15:
        return  # written, but the answer was lost
    if version is None:
        instance.held = None
        return
    instance.own = record
    instance.held = lease.held(record, version, instance.clock(now), TERMS)


@given(st.integers(0, 2**32), st.integers(2, 4))
def test_never_two_may_act_and_somebody_does_when_the_network_heals(seed: int, count: int) -> None:
    """Clocks that differ and drift by 3 %, pauses, lost requests and answers."""
    chance = random.Random(seed)
    keeper = Keeper()
    instances = [
        Instance(f"i{n}", 1 + chance.uniform(-0.03, 0.03), chance.uniform(0, 1e6))
        for n in range(count)
    ]
    epochs: list[int] = []
    now = 0.0
    while now < 200:
        now += chance.uniform(0.05, 1.0)
        for instance in instances:
            if now < instance.paused_until:
                continue
            if chance.random() < 0.01:
                instance.paused_until = now + chance.uniform(0, 40)
                continue
            turn(instance, keeper, now, chance)
        acting = [i for i in instances if lease.may_act(i.held, i.clock(now))]
        assert len(acting) <= 1, [i.name for i in acting]
        epochs += [i.held.epoch for i in acting if i.held]
    assert epochs == sorted(epochs), "an epoch never goes back"
    calm = random.Random(1)
    calm.random = lambda: 1.0  # type: ignore[method-assign]
    for _ in range(120):
        now += 0.5
        for instance in instances:
            turn(instance, keeper, now, calm)
    assert sum(lease.may_act(i.held, i.clock(now)) for i in instances) == 1
