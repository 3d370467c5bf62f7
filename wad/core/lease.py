"""The rules of the lease, which decides which instance may act.  Pure: facts in, one act and its reason out.

A lease is a deadline, not a flag.  The holder may act until `valid_until`, counted on its own CLOCK_BOOTTIME from
*before* it sent the last renewal that succeeded, and gives up `margin` seconds earlier, so that its workers are dead
before the record expires for the other instances.  No two clocks of clients are compared: one clock measures the age of
another holder's record, that of the store (or our own, while we watch an unchanged record).

    passive --acquire--> held --renew--> held --(no renewal in time | lost)--> passive
                          `--release--> passive (the record is free; its epoch stays)

If the response to a write is lost, the record may be ours although we do not hold the lease.  A holder whose renewal is
refused reads the record and continues if the record is its own (`recognised`, which does not extend the deadline); a
standby that finds a record of its own process acquires the lease again with the next epoch.

`epoch` grows by one at every acquire and survives a release: it is the fencing token that the store checks.
Not guaranteed: that a holder whose process is frozen beyond its deadline notices in time.  The epoch and the workers'
own permission (a duration, counted on their clocks) cover that case.
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
    """Durations in seconds.  Raises BadConfig if one or two lost renewals would already end a leadership term."""

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
"""No installation reaches this number: a larger one in a document is an error."""
LONGEST_TTL: Final = 86_400.0
"""Seconds: a record that holds the lease for longer without a renewal is an error."""


_LONGEST_TEXT: Final = 2000  # characters


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The lease record as the store keeps it.  `holder` empty: free.  Times are for display only, ms since 1970.

    `reason`: why the lease was acquired or released.  A holder without a nonce is another program that uses the record.
    """

    holder: str
    nonce: str
    epoch: int
    ttl: float
    acquired_ms: int = 0
    renewed_ms: int = 0
    previous: str = ""
    reason: str = ""


def is_valid(record: Record) -> bool:
    """Whether all values of an untrusted record are possible."""
    longest_ttl = LONGEST_TTL if record.holder else math.inf
    texts = (record.holder, record.nonce, record.previous, record.reason)
    return (
        0 <= record.ttl <= longest_ttl  # False for NaN, too
        and 0 <= record.epoch <= NEWEST_EPOCH
        and all(0 <= ms < LATEST_MS for ms in (record.acquired_ms, record.renewed_ms))
        and all(len(text) <= _LONGEST_TEXT for text in texts)
    )


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """One holder's term, for the lease history.  `ended_ms` 0: it lasts, or its end was not recorded."""

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
    """A record as it was read: `age` seconds by one clock, `version` for a compare-and-set.

    `version` None: there is no record, only the newest epoch is known.  `dead`: the holder is proven dead (its lock on
    our own disk is free).
    """

    record: Record
    age: float
    version: str | None
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """The lease while we hold it: we may act until `valid_until` (CLOCK_BOOTTIME seconds, margin subtracted)."""

    record: Record
    version: str
    valid_until: float
    renew_at: float

    @property
    def epoch(self) -> int:
        """The fencing token of our lease."""
        return self.record.epoch


class Act(StrEnum):
    """What the leader does next."""

    ACQUIRE = "acquire"
    RENEW = "renew"
    WAIT = "wait"
    STEP_DOWN = "step_down"


@dataclass(frozen=True, slots=True)
class Decision:
    """One act, its reason for log and status, and when to decide again (seconds from now)."""

    act: Act
    reason: str
    again_in: float = 0.0


_SOON: Final = 0.05  # seconds: two clocks may differ by a tick about an expiry


def may_act(held: Held | None, now: float) -> bool:
    """Whether we may act at `now`."""
    return held is not None and now < held.valid_until


def decide_as_holder(held: Held, now: float) -> Decision:
    """What to do while we hold the lease."""
    if now >= held.valid_until:
        return Decision(Act.STEP_DOWN, f"epoch {held.epoch} was not renewed in time")
    if now >= held.renew_at:
        return Decision(Act.RENEW, f"holding epoch {held.epoch}")
    return Decision(
        Act.WAIT, f"holding epoch {held.epoch}", min(held.renew_at, held.valid_until) - now
    )


def decide_as_standby(seen: Seen | None, holder: str, nonce: str, *, forced: str = "") -> Decision:
    """What to do while we do not hold the lease, given the record as just read (None: there is none).

    `forced`: the operator who ordered to acquire it regardless of the record; empty if nobody did.
    """
    if seen is None:
        return Decision(Act.ACQUIRE, "there is no holder yet")
    record = seen.record
    if not record.holder:
        return Decision(Act.ACQUIRE, f"epoch {record.epoch} was released")
    if record.nonce == nonce:
        # The nonce is this process's own, and this process does not act on the record.
        return Decision(Act.ACQUIRE, f"the response to our write of epoch {record.epoch} was lost")
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
    """The record that acquires the lease.  `floor`: the newest epoch of the store, in case the record was lost."""
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
    """The record that renews the lease."""
    return msgspec.structs.replace(record, renewed_ms=now_ms)


def released(record: Record, now_ms: int, reason: str = "") -> Record:
    """The record that releases the lease; the epoch stays."""
    return msgspec.structs.replace(
        record, holder="", nonce="", renewed_ms=now_ms, previous=record.holder, reason=reason
    )


def held(record: Record, version: str, sent_at: float, terms: LeaseTerms) -> Held:
    """Our lease after a successful write that was *sent* at `sent_at` (CLOCK_BOOTTIME)."""
    return Held(
        record=record,
        version=version,
        valid_until=sent_at + terms.ttl - terms.margin,
        renew_at=sent_at + terms.renew_every,
    )


def recognised(held: Held, seen: Seen | None) -> Held | None:
    """Our lease after a renewal was refused, given the record as read since; None if it is not ours any more.

    It may still be ours: then the response to an earlier renewal was lost, and only the version changes.  The deadline
    stays, since the time at which that renewal was sent is unknown; the next renewal follows at once.
    """
    if seen is None or seen.version is None:
        return None
    ours = (seen.record.holder, seen.record.nonce, seen.record.epoch)
    if ours != (held.record.holder, held.record.nonce, held.record.epoch):
        return None
    return replace(held, version=seen.version)


def own_record(seen: Seen | None, nonce: str) -> tuple[Record, str] | None:
    """The record and its version if it belongs to this process; None if it does not.

    A process releases it at its end: it may hold the lease by a write whose response was lost.
    """
    if seen is None or seen.version is None or not seen.record.holder:
        return None
    return (seen.record, seen.version) if seen.record.nonce == nonce else None


def begun(record: Record) -> Tenure:
    """The history entry of an acquired lease."""
    return Tenure(
        epoch=record.epoch,
        holder=record.holder,
        nonce=record.nonce,
        began_ms=record.acquired_ms,
        reason=record.reason,
        previous=record.previous,
    )


def ended(tenure: Tenure, record: Record) -> Tenure:
    """The history entry of a released lease."""
    return msgspec.structs.replace(tenure, ended_ms=record.renewed_ms, end=record.reason)


def with_ends(tenures: Iterable[Tenure]) -> list[Tenure]:
    """The history with the end of each term, newest first: a successor ends a term that was not released."""
    found: list[Tenure] = []
    for tenure in sorted(tenures, key=lambda tenure: tenure.epoch, reverse=True):
        if not tenure.ended_ms and found:
            successor = found[-1]
            tenure = msgspec.structs.replace(
                tenure, ended_ms=successor.began_ms, end=successor.reason
            )
        found.append(tenure)
    return found
