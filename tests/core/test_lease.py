"""The pure lease: unit tests of the rules; `test_lease_model` puts them into worlds."""

from __future__ import annotations

import pytest

from wad.core import lease
from wad.core.errors import BadConfig
from wad.core.lease import Act, LeaseTerms, Record, Seen

TERMS = LeaseTerms(ttl=15, renew_every=5, margin=3)


def a_record(holder: str = "other", epoch: int = 7) -> Record:
    """A record of another instance."""
    return Record(holder=holder, nonce="n", epoch=epoch, ttl=15)


@pytest.mark.parametrize(
    ("ttl", "every", "margin"), [(0, 5, 3), (15, 7, 3), (15, 5, 0), (10, 5, 3)]
)
def test_terms_that_cannot_work_are_refused(ttl: float, every: float, margin: float) -> None:
    """Two lost renewals and the margin must fit into the ttl."""
    with pytest.raises(BadConfig):
        LeaseTerms(ttl, every, margin)


def test_no_record_is_acquired_at_once() -> None:
    """The first instance ever does not wait."""
    assert lease.decide_as_standby(None, "me", "x").act is Act.ACQUIRE


def test_a_fresh_record_of_another_is_respected() -> None:
    """The standby waits, and reports the holder and the time left."""
    decision = lease.decide_as_standby(Seen(a_record(), 4.0, "v"), "me", "x")
    assert decision.act is Act.WAIT
    assert decision.reason == "other holds epoch 7, 11.0 s left"


def test_a_record_that_ran_out_is_taken() -> None:
    """Its age is over its own ttl."""
    assert lease.decide_as_standby(Seen(a_record(), 15.0, "v"), "me", "x").act is Act.ACQUIRE


def test_a_released_record_is_taken_with_the_next_epoch() -> None:
    """The fencing token never decreases, not even over a release."""
    free = lease.released(a_record(), 5)
    assert lease.decide_as_standby(Seen(free, 0.0, "v"), "me", "x").act is Act.ACQUIRE
    assert lease.acquired(Seen(free, 0.0, "v"), "me", "x", TERMS, 6).epoch == 8


def test_a_new_record_names_the_previous_holder() -> None:
    """Also over a release, after which the record has no holder; and nobody if there was none."""

    def previous(seen: Seen | None) -> str:
        return lease.acquired(seen, "me", "x", TERMS, 6).previous

    assert previous(Seen(a_record("them"), 99.0, "v")) == "them"
    assert previous(Seen(lease.released(a_record("them"), 5), 0.0, "v")) == "them"
    assert previous(None) == ""


def test_a_dead_holder_is_succeeded_at_once() -> None:
    """A holder whose lock on this machine is free does not have to run out."""
    assert (
        lease.decide_as_standby(Seen(a_record(), 0.0, "v", dead=True), "me", "x").act is Act.ACQUIRE
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


def test_a_record_of_this_very_process_is_taken_anew() -> None:
    """The response to our own write was lost: no other process acts on it, and its epoch is not used twice."""
    mine = Record(holder="me", nonce="x", epoch=7, ttl=15)
    assert lease.decide_as_standby(Seen(mine, 0.0, "v"), "me", "x").act is Act.ACQUIRE
    assert lease.acquired(Seen(mine, 0.0, "v"), "me", "x", TERMS, 6).epoch == 8


def test_another_process_of_this_instance_is_respected() -> None:
    """A name alone proves nothing: two machines may have been given the same."""
    theirs = Record(holder="me", nonce="y", epoch=7, ttl=15)
    decision = lease.decide_as_standby(Seen(theirs, 1.0, "v"), "me", "x")
    assert decision.act is Act.WAIT
    assert decision.reason.startswith("an earlier process of this instance holds epoch 7")


def test_force_takes_the_lease_of_another_and_names_the_operator() -> None:
    """An operator uses it when the other machine is dead."""
    decision = lease.decide_as_standby(Seen(a_record(), 0.0, "v"), "me", "x", forced="root")
    assert decision == lease.Decision(Act.ACQUIRE, "taken from other by force, by order of root")


def test_a_refused_renewal_may_still_be_ours() -> None:
    """The answer to an earlier one was lost: only the version is news, the deadline stays."""
    held = lease.held(a_record("me"), "v", 100.0, TERMS)
    found = lease.recognised(held, Seen(lease.renewed(held.record, 9), 0.5, "w"))
    assert found is not None
    assert (found.version, found.valid_until, found.epoch) == ("w", held.valid_until, 7)


@pytest.mark.parametrize(
    "seen",
    [
        None,
        Seen(a_record("me"), 0.0, None),
        Seen(a_record("thief"), 0.0, "w"),
        Seen(a_record("me", epoch=8), 0.0, "w"),
        Seen(Record(holder="me", nonce="other process", epoch=7, ttl=15), 0.0, "w"),
        Seen(lease.released(a_record("me"), 0), 0.0, "w"),
    ],
)
def test_the_record_of_another_is_not_ours(seen: Seen | None) -> None:
    """Name, process and epoch must all agree."""
    assert lease.recognised(lease.held(a_record("me"), "v", 100.0, TERMS), seen) is None


def test_the_history_has_each_end() -> None:
    """A released term has its own end; any other ends with its successor, for the successor's reason."""
    first = lease.begun(Record(holder="a", nonce="1", epoch=1, ttl=15, acquired_ms=10))
    first = lease.ended(
        first, Record(holder="", nonce="", epoch=1, ttl=15, renewed_ms=20, reason="stopped")
    )
    second = lease.begun(Record(holder="b", nonce="2", epoch=2, ttl=15, acquired_ms=30))
    third = lease.begun(
        Record(holder="c", nonce="3", epoch=3, ttl=15, acquired_ms=40, reason="b is dead")
    )
    shown = [(t.epoch, t.ended_ms, t.end) for t in lease.with_ends([first, second, third])]
    assert shown == [(3, 0, ""), (2, 40, "b is dead"), (1, 20, "stopped")]
