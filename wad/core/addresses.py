"""The addresses of persons: which phone number belongs to which LID, and from when.  Pure.

A LID is a person: it stays when the phone number changes, and the next owner of a number has another LID.  So a LID has
one number at a time and a number one LID; of contradictory reports the latest counts (`verdict`).  Both the plan of an
event and the store decide by the same rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

from wad.core.change import PutAlias
from wad.core.jid import Jid, JidKind


class Known(NamedTuple):
    """A known address of a person, and the time at which it was reported, in ms since 1970 (0: unknown)."""

    address: str
    at_ms: int


class Verdict(Enum):
    """What a report that a LID has a number means."""

    KNOWN = auto()
    """It is the person's number already."""
    CURRENT = auto()
    """It is the person's number from now on; whoever had it before has it no longer."""
    OTHER = auto()
    """It is another number of the person: an earlier one, or another spelling."""
    NOT_THEIRS = auto()
    """Another person has it."""


def verdict(alias: PutAlias, number: Known | None, owner: Known | None) -> Verdict:
    """The meaning of a report; `number` is the LID's number so far, `owner` the other LID that has the number."""
    if number is not None and number.address == alias.pn:
        return Verdict.KNOWN
    if owner is not None and alias.at_ms <= owner.at_ms:
        return Verdict.NOT_THEIRS
    if number is not None and alias.at_ms <= number.at_ms:
        return Verdict.OTHER if owner is None else Verdict.NOT_THEIRS
    return Verdict.CURRENT


class Addresses:
    """The numbers of the LIDs that one account knows."""

    def __init__(self, aliases: Iterable[PutAlias] = ()) -> None:
        self._numbers: dict[str, Known] = {}
        self._owners: dict[str, str] = {}
        for alias in aliases:
            self.put(alias)

    def copy(self) -> Addresses:
        """Another object with the same content."""
        other = Addresses()
        other._numbers, other._owners = dict(self._numbers), dict(self._owners)
        return other

    def put(self, alias: PutAlias) -> None:
        """Apply a report."""
        found = self._verdict(alias)
        if found is Verdict.KNOWN:
            at_ms = max(alias.at_ms, self._numbers[alias.lid].at_ms)
            self._numbers[alias.lid] = Known(alias.pn, at_ms)
        if found is not Verdict.CURRENT:
            return
        former = self._numbers.get(alias.lid)
        if former is not None and self._owners.get(former.address) == alias.lid:
            del self._owners[former.address]
        loser = self._owners.get(alias.pn)
        if loser is not None:
            del self._numbers[loser]
        self._numbers[alias.lid] = Known(alias.pn, alias.at_ms)
        self._owners[alias.pn] = alias.lid

    def canonical(self, jid: Jid, alt: Jid | None, at_ms: int) -> Jid:
        """The party's canonical address, reported at `at_ms`: the number if the report or an earlier one gives it.

        A number without a LID is returned as it is: the store knows other numbers of a person.
        """
        party, other = jid.party(), None if alt is None else alt.party()
        lid, pn = (party, other) if party.kind is JidKind.LID else (other, party)
        if lid is None or lid.kind is not JidKind.LID:
            return party
        known = self._numbers.get(str(lid))
        if pn is not None and pn.kind is JidKind.PN:
            found = self._verdict(PutAlias(str(lid), str(pn), at_ms))
            if found in (Verdict.KNOWN, Verdict.CURRENT):
                return pn
        elif party.kind is not JidKind.LID:
            return party  # a group
        return lid if known is None else Jid.parse(known.address)

    def _verdict(self, alias: PutAlias) -> Verdict:
        owner = self._owners.get(alias.pn)
        other = None if owner in (None, alias.lid) else owner
        return verdict(
            alias,
            self._numbers.get(alias.lid),
            None if other is None else Known(other, self._numbers[other].at_ms),
        )
