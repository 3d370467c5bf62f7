"""Mentions in a text: @ and the user part of an address.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def with_other_addresses(text: str, mentions: Iterable[str], addresses: Mapping[str, str]) -> str:
    """The text with each mentioned address written as `addresses` has it; at once, so that none is replaced twice."""
    users = {
        _user(one): _user(other)
        for one in mentions
        if (other := addresses.get(one, one)) != one and f"@{_user(one)}" in text
    }
    if not users:
        return text
    either = "|".join(map(re.escape, sorted(users, key=len, reverse=True)))
    return re.sub(rf"@({either})(?![0-9])", lambda found: f"@{users[found[1]]}", text)


def _user(jid: str) -> str:
    return jid.partition("@")[0]
