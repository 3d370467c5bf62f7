"""Signed tokens of Firebase (a user's id token, App Check's): their parts, and what must be true of their claims.

Pure: whether the signature is right is asked of whoever holds the keys.  Rules: Firebase's pages "Verify ID Tokens" and
"Verify App Check tokens from a custom backend".  A token that is refused says why by its code.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import InvalidData

ALGORITHM: Final = "RS256"
_SKEW_S: Final = 60  # seconds by which the clocks may differ
_LONGEST_SUBJECT: Final = 128


class BadToken(Exception):
    """A token that proves nothing; `code` says why, the text is one sentence without the token."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Claims(msgspec.Struct, frozen=True):
    """What a token says; times are seconds since 1970."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    iat: float
    auth_time: float = 0
    email: str = ""
    email_verified: bool = False
    name: str = ""


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str = ""


@dataclass(frozen=True, slots=True)
class IdToken:
    """A token in its parts; nothing of it is proven yet."""

    key: str
    claims: Claims
    signed: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """For whom a token must be, and by whom."""

    audience: str
    issuer: str


def parse(text: str) -> IdToken:
    """A token in its parts.  Raises BadToken."""
    parts = text.split(".")
    if len(parts) != 3:
        raise BadToken("invalid_token", "this is no signed token")
    try:
        with decoding("the token"):
            header = msgspec.json.decode(decoded(parts[0]), type=_Header)
            claims = msgspec.json.decode(decoded(parts[1]), type=Claims)
            signature = decoded(parts[2])
    except InvalidData as error:
        raise BadToken("invalid_token", "the token cannot be read") from error
    if header.alg != ALGORITHM:
        raise BadToken("wrong_algorithm", f"a token must be signed with {ALGORITHM}")
    return IdToken(header.kid, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def check(claims: Claims, expected: Expected, now: float) -> None:
    """Whether a token whose signature is right is for us, by whom we trust, and now.  Raises BadToken."""
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if expected.audience not in audiences:
        raise BadToken("wrong_audience", "the token is for another project")
    if claims.iss != expected.issuer:
        raise BadToken("wrong_issuer", "the token is of another issuer")
    if now >= claims.exp + _SKEW_S:
        raise BadToken("token_expired", "the token has expired; sign in again")
    if max(claims.iat, claims.auth_time) > now + _SKEW_S:
        raise BadToken("token_not_yet_valid", "the token is of the future; look at the clocks")
    if not 0 < len(claims.sub) <= _LONGEST_SUBJECT:
        raise BadToken("invalid_subject", "the token names nobody")


def decoded(part: str) -> bytes:
    """The bytes of base64 as tokens write it, without padding.  Raises InvalidData."""
    with decoding("a part of a token"):
        padded = part.encode("ascii") + b"=" * (-len(part) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
