"""Static API tokens: what a caller is given once, and what the configuration keeps of it.

A token has 256 random bits, so a plain SHA-256 of it tells nobody anything, and no slow hash is needed.
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
"""Characters of a token that somebody thought of; those that `fresh` makes have 47."""
_DIFFERENT: Final = 8
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Role(StrEnum):
    """Who somebody is over HTTP: may look; may send and steer; may do what cannot be undone."""

    VIEWER = "viewer"
    EMPLOYEE = "employee"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token as it is configured; `sha256` in hexadecimal."""

    name: str
    role: Role
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}:{self.role}:{self.sha256}"


def weakness(token: str) -> str:
    """What makes a token easy to guess, to follow a name; empty where nothing does."""
    if len(token) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    if len(set(token)) < _DIFFERENT:
        return f"has fewer than {_DIFFERENT} different characters"
    return ""


def fresh(draw: Callable[[int], bytes]) -> str:
    """A new token; `draw` gives so many random bytes."""
    return _PREFIX + base64.urlsafe_b64encode(draw(_BYTES)).rstrip(b"=").decode()


def hashed(token: str) -> str:
    """What the configuration keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def named(name: str, role: Role, token: str) -> StaticToken:
    """A token with its name.  Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(f"{name!r} is no name of a token", hint="1 to 64 of A-Z a-z 0-9 . _ -")
    return StaticToken(name, role, hashed(token))


def parse(text: str) -> tuple[StaticToken, ...]:
    """The tokens of a configuration, parted by blanks, line ends or commas.  Raises BadInput, without the text."""
    found = []
    for number, word in enumerate(re.split(r"[\s,]+", text.strip(" \t\r\n,")) if text else (), 1):
        match = _LINE.fullmatch(word)
        if match is None or match[2] not in list(Role):
            raise BadInput(f"token {number} is not NAME:ROLE:SHA256")
        found.append(StaticToken(match[1], Role(match[2]), match[3]))
    names = [token.name for token in found]
    if len(set(names)) != len(names) or len({token.sha256 for token in found}) != len(found):
        raise BadInput("a token, or the name of one, is there twice")
    return tuple(found)


def is_list(text: str) -> bool:
    """Whether `parse` takes it."""
    try:
        parse(text)
    except BadInput:
        return False
    return True
