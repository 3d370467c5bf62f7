"""The lease: who may act.  Pure: facts in, one act and its reason out.

A lease is a deadline, not a flag.  The holder may act until `valid_until`, counted on its own CLOCK_BOOTTIME from
*before* it sent the last renewal that succeeded, and gives up `margin` seconds earlier, so that its workers are dead
before the record's time runs out for the others.  No client's clock is compared with another's: the age of somebody
else's record is measured by one clock, the record keeper's (or by our own watching of an unchanged record).

    passive --acquire--> held --renew--> held --(no renewal in time | lost)--> passive
                          `--release--> passive (the record says it is free; its epoch stays)

An answer that was lost leaves a record that is ours without our knowing: a holder whose renewal is refused reads the
record and goes on where it is its own (`recognised`, which prolongs nothing); who does not hold, and finds a record of
its own process, takes it anew with the next epoch.

`epoch` grows by one at every acquire and survives release: it is the fencing token that the store checks.
What is not guaranteed: that a holder whose process is frozen beyond its deadline notices in time.  That is what the
epoch and the workers' own permission (a duration, counted on their clocks) are for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from wad.core.errors import BadConfig
from wad.core.untrusted import LATEST_MS


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """Durations in seconds.  Raises BadConfig when a lost renewal or two would already end the reign."""

    ttl: float = 15.0
    renew_every: float = 5.0
    margin: float = 3.0

    def __post_init__(self) -> None:
        if min(self.ttl, self.renew_every, self.margin) <= 0:
            raise BadConfig("lease: ttl, renew_every and margin must be more than 0 seconds")
        if 2 * self.renew_every + self.margin > self.ttl:
            raise BadConfig(
                "lease: ttl must be at least twice renew_every plus margin "
                f"({2 * self.renew_every + self.margin:g} s), not {self.ttl:g} s"
            )


NEWEST_EPOCH: Final = 10**12 - 1
"""No installation gets so far: a larger number in a document is a mistake."""
LONGEST_TTL: Final = 86_400.0
"""Seconds: a record that claims to hold the lease for longer without a renewal is a mistake."""


_LONGEST_TEXT: Final = 2000  # characters


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the record keeper stores.  `holder` empty: free.  Times for people only, ms since 1970.

    `reason`: why it was taken, or let go.  A holder without a nonce is another program that knows the record, too.
    """

    holder: str
    nonce: str
    epoch: int
    ttl: float
    acquired_ms: int = 0
    renewed_ms: int = 0
    previous: str = ""
    reason: str = ""


def is_sound(record: Record) -> bool:
    """Whether a record that somebody else may have written says something that a holder can mean."""
    longest_ttl = LONGEST_TTL if record.holder else math.inf
    texts = (record.holder, record.nonce, record.previous, record.reason)
    return (
        0 <= record.ttl <= longest_ttl  # nor is it NaN
        and 0 <= record.epoch <= NEWEST_EPOCH
        and all(0 <= ms < LATEST_MS for ms in (record.acquired_ms, record.renewed_ms))
        and all(len(text) <= _LONGEST_TEXT for text in texts)
    )


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """One holder's time, for the history.  `ended_ms` 0: it goes on, or nobody has told its end."""

    epoch: int
    holder: str
    nonce: str
    began_ms: int
    reason: str
    previous: str = ""
    ended_ms: int = 0
    end: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it was read: `age` seconds by one clock, `version` what a compare-and-set must name.

    `version` None: no record is there, only the newest epoch is known.  `dead`: the holder is proven dead (its lock on
    our own disk is free).
    """

    record: Record
    age: float
    version: str | None
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """We hold it: act until `valid_until` (CLOCK_BOOTTIME seconds, margin already taken off)."""

    record: Record
    version: str
    valid_until: float
    renew_at: float

    @property
    def epoch(self) -> int:
        """The fencing token of our right."""
        return self.record.epoch


class Act(StrEnum):
    """What the leader does next."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"
    STEP_DOWN = "step_down"


@dataclass(frozen=True, slots=True)
class Decision:
    """One act, when to look again (seconds from now), and the sentence for log and status."""

    act: Act
    reason: str
    again_in: float = 0.0


_SOON: Final = 0.05  # seconds: two clocks may disagree by a tick about when something has run out


def may_act(held: Held | None, now: float) -> bool:
    """Whether we may act at `now`: the only question that anything else asks."""
    return held is not None and now < held.valid_until


def decide_as_holder(held: Held, now: float) -> Decision:
    """What to do while we hold it."""
    if now >= held.valid_until:
        return Decision(Act.STEP_DOWN, f"epoch {held.epoch} was not renewed in time")
    if now >= held.renew_at:
        return Decision(Act.RENEW, f"holding epoch {held.epoch}")
    return Decision(
        Act.WAIT, f"holding epoch {held.epoch}", min(held.renew_at, held.valid_until) - now
    )


def decide_as_standby(seen: Seen | None, holder: str, nonce: str, *, forced: str = "") -> Decision:
    """What to do while we do not, given the record as just read (None: there is none).

    `forced`: who ordered to take it whatever the record says; empty when nobody did.
    """
    if seen is None:
        return Decision(Act.ACQUIRE, "there is no holder yet")
    record = seen.record
    if not record.holder:
        return Decision(Act.ACQUIRE, f"epoch {record.epoch} was released")
    if record.nonce == nonce:
        # Nobody else has this nonce, and this process does not act on it.
        return Decision(Act.ACQUIRE, f"the answer to our write of epoch {record.epoch} was lost")
    if seen.dead:
        return Decision(Act.ACQUIRE, f"{record.holder} is dead: its lock on this machine is free")
    if forced:
        return Decision(Act.ACQUIRE, f"taken from {record.holder} by force, by order of {forced}")
    left = record.ttl - seen.age
    if left <= 0:
        return Decision(
            Act.ACQUIRE,
            f"{record.holder} has not renewed epoch {record.epoch} for {seen.age:.1f} s",
        )
    ours = record.holder == holder and record.nonce
    whose = "an earlier process of this instance" if ours else record.holder
    return Decision(
        Act.WAIT,
        f"{whose} holds epoch {record.epoch}, {left:.1f} s left",
        max(left, _SOON),
    )


def acquired(
    seen: Seen | None,
    holder: str,
    nonce: str,
    terms: LeaseTerms,
    now_ms: int,
    *,
    reason: str = "",
    floor: int = 0,
) -> Record:
    """The record that takes the lease.  `floor`: the newest epoch the store has seen, should the record be lost."""
    old = seen.record if seen is not None else None
    return Record(
        holder=holder,
        nonce=nonce,
        epoch=max(old.epoch if old else 0, floor) + 1,
        ttl=terms.ttl,
        acquired_ms=now_ms,
        renewed_ms=now_ms,
        previous=(old.holder or old.previous) if old else "",
        reason=reason,
    )


def renewed(record: Record, now_ms: int) -> Record:
    """The record that keeps it."""
    return msgspec.structs.replace(record, renewed_ms=now_ms)


def released(record: Record, now_ms: int, reason: str = "") -> Record:
    """The record that frees it; the epoch stays."""
    return msgspec.structs.replace(
        record, holder="", nonce="", renewed_ms=now_ms, previous=record.holder, reason=reason
    )


def held(record: Record, version: str, sent_at: float, terms: LeaseTerms) -> Held:
    """Our right after a write that was *sent* at `sent_at` (CLOCK_BOOTTIME) succeeded."""
    return Held(
        record=record,
        version=version,
        valid_until=sent_at + terms.ttl - terms.margin,
        renew_at=sent_at + terms.renew_every,
    )


def recognised(held: Held, seen: Seen | None) -> Held | None:
    """Our right after a renewal was refused, given the record as read since; None when it is not ours any more.

    It may still be: then the answer to an earlier renewal was lost, and only the version is news.  The deadline stays,
    since nobody knows when that renewal was sent; the next one follows at once.
    """
    if seen is None or seen.version is None:
        return None
    ours = (seen.record.holder, seen.record.nonce, seen.record.epoch)
    if ours != (held.record.holder, held.record.nonce, held.record.epoch):
        return None
    return replace(held, version=seen.version)


def own(seen: Seen | None, nonce: str) -> tuple[Record, str] | None:
    """The record and its version where it is this process's, whichever write made it so; None where it is not.

    What a process that ends has to free: it may hold the lease by a write whose answer it never heard.
    """
    if seen is None or seen.version is None or not seen.record.holder:
        return None
    return (seen.record, seen.version) if seen.record.nonce == nonce else None


def begun(record: Record) -> Tenure:
    """The entry of the history that an acquire begins."""
    return Tenure(
        epoch=record.epoch,
        holder=record.holder,
        nonce=record.nonce,
        began_ms=record.acquired_ms,
        reason=record.reason,
        previous=record.previous,
    )


def ended(tenure: Tenure, record: Record) -> Tenure:
    """The entry once its holder has released."""
    return msgspec.structs.replace(tenure, ended_ms=record.renewed_ms, end=record.reason)


def told(tenures: Iterable[Tenure]) -> list[Tenure]:
    """The history with each end told, newest first: who did not tell its own end was ended by its successor."""
    found: list[Tenure] = []
    for tenure in sorted(tenures, key=lambda tenure: tenure.epoch, reverse=True):
        if not tenure.ended_ms and found:
            successor = found[-1]
            tenure = msgspec.structs.replace(
                tenure, ended_ms=successor.began_ms, end=successor.reason
            )
        found.append(tenure)
    return found
