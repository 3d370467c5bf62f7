"""What an account is called by: its id, its name, or its whole number.  Pure.

A reference is compared exactly: no part of a name or a number, no other case, nothing stripped.  A number may be
written in any usual way (`jid.phone_digits`: ASCII digits, `+` or `00`, blanks, brackets, hyphens) but is always the
whole international number.  What means two accounts is refused, when it is given as a name and when it is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from wad.core.errors import BadPhone
from wad.core.jid import phone_digits


class Way(StrEnum):
    """By which of its names an account is meant."""

    ID = "id"
    NAME = "name"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Names:
    """What an account is called by; `phone` with a leading `+`, or empty."""

    id: str
    name: str
    phone: str = ""


def number_of(ref: str) -> str:
    """The number that a reference is, with a leading `+`; empty where it is none."""
    try:
        return f"+{phone_digits(ref)}"
    except BadPhone:
        return ""


def way(ref: str, names: Names) -> Way | None:
    """How a reference means this account; None where it does not."""
    if ref == names.id:
        return Way.ID
    if ref == names.name:
        return Way.NAME
    if names.phone and number_of(ref) == names.phone:
        return Way.NUMBER
    return None


def clash(new: Names, others: Iterable[Names]) -> str:
    """Why an account cannot be called so beside the others; empty where it can."""
    for other in others:
        if new.phone and new.phone == other.phone:
            return f"{new.phone} is account {other.id} already"
        if new.name == other.name:
            return f"an account is named {new.name!r} already: {other.id}"
        for ref in filter(None, (new.id, new.name, new.phone)):
            if (how := way(ref, other)) is not None:
                return f"{ref!r} is the {how} of account {other.id} already"
        for ref in (other.id, other.name):
            if (how := way(ref, new)) is not None:
                return f"{new.phone if how is Way.NUMBER else ref!r} is what account {other.id} is called already"
    return ""
