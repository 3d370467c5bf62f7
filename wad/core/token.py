"""Static API tokens: the token for the caller, and its hash for the configuration.

A token has 256 random bits, so its plain SHA-256 reveals nothing, and no slow hash is needed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from wad.core.errors import BadInput

_PREFIX: Final = "wad_"
_BYTES: Final = 32
_LINE: Final = re.compile(r"([A-Za-z0-9._-]{1,64}):([a-z]+):([0-9a-f]{64})")
SHORTEST: Final = 20
"""The least length of a token that a person chose; those that `fresh` generates have 47 characters."""
_DIFFERENT: Final = 8
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Role(StrEnum):
    """The role of an HTTP caller: viewer reads; employee also sends and controls; admin may do everything."""

    VIEWER = "viewer"
    EMPLOYEE = "employee"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token as configured; `sha256` in hexadecimal."""

    name: str
    role: Role
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}:{self.role}:{self.sha256}"


def weakness(token: str) -> str:
    """Why a token is easy to guess, as a predicate for its name; empty if it is not."""
    if len(token) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    if len(set(token)) < _DIFFERENT:
        return f"has fewer than {_DIFFERENT} different characters"
    return ""


def fresh(draw: Callable[[int], bytes]) -> str:
    """A new token; `draw` returns the given number of random bytes."""
    return _PREFIX + base64.urlsafe_b64encode(draw(_BYTES)).rstrip(b"=").decode()


def hashed(token: str) -> str:
    """The hash of a token for the configuration."""
    return hashlib.sha256(token.encode()).hexdigest()


def named(name: str, role: Role, token: str) -> StaticToken:
    """The configured form of a token.  Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(f"{name!r} is not a valid token name", hint="1 to 64 of A-Z a-z 0-9 . _ -")
    return StaticToken(name, role, hashed(token))


def parse(text: str) -> tuple[StaticToken, ...]:
    """Parse configured tokens, separated by blanks, line ends or commas.  Raises BadInput without the text."""
    found = []
    for number, word in enumerate(re.split(r"[\s,]+", text.strip(" \t\r\n,")) if text else (), 1):
        match = _LINE.fullmatch(word)
        if match is None or match[2] not in list(Role):
            raise BadInput(f"token {number} is not NAME:ROLE:SHA256")
        found.append(StaticToken(match[1], Role(match[2]), match[3]))
    names = [token.name for token in found]
    if len(set(names)) != len(names) or len({token.sha256 for token in found}) != len(found):
        raise BadInput("duplicate token, or duplicate token name")
    return tuple(found)


def is_list(text: str) -> bool:
    """Whether `parse` accepts it."""
    try:
        parse(text)
    except BadInput:
        return False
    return True
