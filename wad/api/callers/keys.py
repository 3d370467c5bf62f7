"""The public keys of Google's signers: fetched on demand and cached for the max-age of the response.

While they cannot be fetched, the cached keys stay valid for a day; an unknown key causes at most one request a minute.
This module imports cryptography and PyJWT; it is imported with the first token.
"""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final

import jwt
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from wad.core.decoding import decoding
from wad.core.errors import InvalidData, Unavailable

_TIMEOUT: Final = 10.0
_RETRY_S: Final = 60.0  # seconds between two requests for an unknown key, or after a failed request
_GRACE: Final = 86_400.0  # seconds for which old keys stay valid while no new ones can be fetched
_LARGEST: Final = 1 << 20
_MAX_AGE: Final = 86_400.0  # seconds for which keys are cached at most
_DEFAULT_AGE: Final = 3600.0  # seconds for which keys without max-age are cached


@dataclass(frozen=True, slots=True)
class Fetched:
    """A response; `max_age` in seconds, None without one."""

    body: bytes
    max_age: float | None


Fetch = Callable[[str], Awaitable[Fetched]]


class _Jwk(msgspec.Struct):
    kid: str
    kty: str
    n: str = ""
    e: str = ""


class _Jwks(msgspec.Struct):
    keys: list[_Jwk]


class Keys:
    """The keys of one URL.  `now` returns seconds."""

    def __init__(self, url: str, fetch: Fetch, now: Callable[[], float]) -> None:
        self._url = url
        self._fetch = fetch
        self._now = now
        self._known: dict[str, RSAPublicKey] = {}
        self._until = float("-inf")
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, key: str) -> RSAPublicKey | None:
        """The public key with this id; None if there is none.  Raises Unavailable."""
        if not self._has(key):
            async with self._lock:
                if not self._has(key):
                    await self._refresh()
        return self._known.get(key)

    def _has(self, key: str) -> bool:
        return key in self._known and self._now() < self._until

    async def _refresh(self) -> None:
        now = self._now()
        if now - self._tried_at >= _RETRY_S:
            self._tried_at = now
            try:
                fetched = await self._fetch(self._url)
                self._known = _read(fetched.body)
            except (OSError, InvalidData) as error:
                failure = f"the keys of {self._url} cannot be fetched: {error}"
            else:
                self._fetched_at = now
                self._until = now + (_DEFAULT_AGE if fetched.max_age is None else fetched.max_age)
                return
        else:
            failure = f"the keys of {self._url} could not be fetched a moment ago"
        if now - self._fetched_at > _GRACE:
            raise Unavailable(failure)


def _read(body: bytes) -> dict[str, RSAPublicKey]:
    """Parse certificates by key id, or a JSON Web Key Set.  Raises InvalidData."""
    with decoding("the key set"):
        document = msgspec.json.decode(body)
        if isinstance(document, dict) and isinstance(document.get("keys"), list):
            keys = msgspec.convert(document, _Jwks).keys
            return {key.kid: _of_jwk(key) for key in keys if key.kty == "RSA"}
        certificates = msgspec.convert(document, dict[str, str])
        return {kid: _of_certificate(pem) for kid, pem in certificates.items()}


def _of_jwk(key: _Jwk) -> RSAPublicKey:
    try:
        return _rsa(RSAAlgorithm.from_jwk({"kty": key.kty, "n": key.n, "e": key.e}))
    except jwt.InvalidKeyError as error:
        raise InvalidData(f"the key {key.kid!r} is invalid") from error


def _of_certificate(pem: str) -> RSAPublicKey:
    return _rsa(x509.load_pem_x509_certificate(pem.encode()).public_key())


def _rsa(key: object) -> RSAPublicKey:
    if not isinstance(key, RSAPublicKey):
        raise InvalidData("this is not an RSA public key")
    return key


async def fetch(url: str) -> Fetched:
    """Fetch the keys.  Raises OSError."""
    return await asyncio.to_thread(_fetch, url)


def _fetch(url: str) -> Fetched:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            body = answer.read(_LARGEST)
            match = re.search(r"max-age=(\d{1,9})", answer.headers.get("Cache-Control") or "")
    except HTTPException as error:
        raise OSError(f"incomplete response: {type(error).__name__}") from error
    return Fetched(body, min(float(match[1]), _MAX_AGE) if match else None)
