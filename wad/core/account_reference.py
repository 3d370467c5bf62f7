"""A reference to an account: its id, its name, or its whole phone number.  Pure.

A reference is compared whole: no part of a name or a number, nothing stripped; upper and lower case are the same.  A
number may be written in any usual way (`jid.phone_digits`: ASCII digits, `+` or `00`, blanks, brackets, hyphens) but is
always the whole international number.  A reference that matches two accounts is refused, both as a new name and in use.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum

from wad.core.errors import BadPhone
from wad.core.jid import phone_digits


class ReferenceKind(StrEnum):
    """Which of an account's names a reference is."""

    ID = "id"
    NAME = "name"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Names:
    """All names of an account; `phone` with a leading `+`, or empty."""

    id: str
    name: str
    phone: str = ""


def is_exact(ref: str, names: Names) -> bool:
    """Whether the reference is the account's id or name in the same case: accounts that already have names which
    differ only in case can still be told apart."""
    return ref in (names.id, names.name)


def similar(ref: str, known: Iterable[Names]) -> str:
    """The account name or id that the reference may be a misspelling of; empty if there is none."""
    by_folded = {_folded(text): text for names in known for text in (names.id, names.name) if text}
    found = get_close_matches(_folded(ref), by_folded, n=1, cutoff=0.7)
    return by_folded[found[0]] if found else ""


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def international(phone: str, country_code: str) -> str:
    """A phone number with a leading `+`; one in national spelling (a single leading 0) gets the country code.

    Raises BadPhone, also for a national spelling without a country code.
    """
    digits = re.sub(r"[\s().\-]", "", phone)
    if country_code and digits.startswith("0") and not digits.startswith("00"):
        phone = f"+{country_code}{digits[1:]}"
    return f"+{phone_digits(phone)}"


def number_of(ref: str) -> str:
    """The phone number in a reference, with a leading `+`; empty if the reference is not a number."""
    try:
        return f"+{phone_digits(ref)}"
    except BadPhone:
        return ""


def reference_kind(ref: str, names: Names) -> ReferenceKind | None:
    """Which name of this account the reference is; None if it does not match."""
    folded = _folded(ref)
    if folded == names.id:
        return ReferenceKind.ID
    if folded == _folded(names.name):
        return ReferenceKind.NAME
    if names.phone and number_of(ref) == names.phone:
        return ReferenceKind.NUMBER
    return None


def clash(new: Names, others: Iterable[Names]) -> str:
    """Why these names conflict with other accounts; empty if they do not."""
    for other in others:
        if new.phone and new.phone == other.phone:
            return f"account {other.id} already has the number {new.phone}"
        if _folded(new.name) == _folded(other.name):
            return f"account {other.id} already has the name {other.name!r}"
        for ref in filter(None, (new.id, new.name, new.phone)):
            if (how := reference_kind(ref, other)) is not None:
                return f"{ref!r} is already the {how} of account {other.id}"
        for ref in (other.id, other.name):
            if (how := reference_kind(ref, new)) is not None:
                return f"{new.phone if how is ReferenceKind.NUMBER else ref!r} already refers to account {other.id}"
    return ""
