"""Tokens signed with RS256: decoded and verified by PyJWT.  Imported with the first token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.core.id_token import BadToken, Claims

_ALGORITHM: Final = "RS256"
_DESCRIPTION: Final = {"email": str, "email_verified": bool, "name": str}
_SIGNATURES: Final = jwt.PyJWS(algorithms=[_ALGORITHM])


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A decoded token; nothing in it is proven before `verify`.  `key`: the id of the key that signed it."""

    key: str
    claims: Claims
    text: str


def parse(text: str) -> SignedToken:
    """Decode a token.  Raises BadToken.

    A claim that is null counts as absent, and so does a description of the user in an unexpected type: a project may
    set these as custom claims.
    """
    try:
        with decoding("the token"):
            token = jwt.decode_complete(text, options={"verify_signature": False})
            payload = {
                name: value
                for name, value in token["payload"].items()
                if value is not None and type(value) is _DESCRIPTION.get(name, type(value))
            }
            claims = msgspec.convert(payload, Claims)
    except (InvalidData, jwt.InvalidTokenError) as error:
        raise BadToken("invalid_token", "the token cannot be decoded") from error
    if token["header"].get("alg") != _ALGORITHM:
        raise BadToken("wrong_algorithm", f"a token must be signed with {_ALGORITHM}")
    return SignedToken(token["header"].get("kid") or "", claims, text)


def verify(token: SignedToken, key: RSAPublicKey) -> None:
    """Check the signature.  The claims are checked elsewhere, with our clock.  Raises BadToken."""
    try:
        _SIGNATURES.decode(token.text, key, algorithms=[_ALGORITHM])
    except jwt.InvalidTokenError as error:
        raise BadToken("invalid_signature", "the token has an invalid signature") from error
