"""Rules for the claims of Firebase's tokens: a user's ID token and App Check's.  Pure.

The signature is checked elsewhere (wad/api/callers/signed_tokens.py).  Rules: Firebase's pages "Verify ID Tokens" and
"Verify App Check tokens from a custom backend".  Each refusal has a code that gives the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

_SKEW_S: Final = 60  # seconds by which the clocks may differ
_LONGEST_SUBJECT: Final = 128


class BadToken(Exception):
    """The token is refused; `code` gives the reason, the text is one sentence without the token."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Claims(msgspec.Struct, frozen=True):
    """The claims of a token; times are seconds since 1970."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    iat: float
    auth_time: float = 0
    email: str = ""
    email_verified: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """The audience and the issuer that a token must have."""

    audience: str
    issuer: str


def check(claims: Claims, expected: Expected, now: float) -> None:
    """Check the claims of a token whose signature is valid.  Raises BadToken."""
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if expected.audience not in audiences:
        raise BadToken("wrong_audience", "the token is for another project")
    if claims.iss != expected.issuer:
        raise BadToken("wrong_issuer", "the token is from another issuer")
    if now >= claims.exp + _SKEW_S:
        raise BadToken("token_expired", "the token has expired; sign in again")
    if max(claims.iat, claims.auth_time) > now + _SKEW_S:
        raise BadToken("token_not_yet_valid", "the token is not valid yet; check the clocks")
    if not 0 < len(claims.sub) <= _LONGEST_SUBJECT:
        raise BadToken("invalid_subject", "the token has no subject")
