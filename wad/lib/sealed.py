"""Sealed files: encrypted with a secret, and authenticated, so that a change is detected.

    magic 2 | log2 of N, r, p (a byte each) | salt (16) | nonce (12) | AES-256-GCM of the compressed bytes
    magic 1 | salt (16) | nonce (12) | the same, N = 2^15, r = 8, p = 1: written until 2026, still read

Everything before the nonce is authenticated with the bytes.  scrypt derives the key from the secret, with the first
parameters of OWASP's Password Storage Cheat Sheet, N = 2^17, r = 8, p = 1 (128 MB, some 0.5 s), so that a passphrase
cannot be guessed quickly.  The parameters of a file are bounded before they are used, since its author chose them.
This is the only module that uses the library for it, and imports it when it is needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

from wad.core.errors import BadInput, Unavailable

MAGIC: Final = b"wad sealed 2\n"
LIMIT: Final = 1 << 28  # bytes before they are sealed
_SALT, _NONCE = 16, 12  # bytes
_SHORTEST: Final = 12  # characters of a secret


class Cost(NamedTuple):
    """The parameters of scrypt: N is 2 to the power of `log_n`."""

    log_n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes of memory that scrypt needs."""
        return 128 * self.r << self.log_n

    @property
    def is_bearable(self) -> bool:
        """Whether a file may require it: at most twice the memory and four times the time of our own."""
        # r and log_n first: with a log_n of 255 the memory would be too large a number.
        return (
            1 <= self.log_n <= 20
            and 1 <= self.r <= 32
            and 1 <= self.p <= 16
            and self.memory <= 2 * COST.memory
            and self.memory * self.p <= 4 * COST.memory
        )


COST: Final = Cost(17, 8, 1)
_COSTS: Final = {b"wad sealed 1\n": Cost(15, 8, 1)}
"""The costs by the magic of files that do not contain them."""


class _SealedHead(NamedTuple):
    cost: Cost
    salt: bytes
    raw: bytes
    """The whole head, magic included."""


def check_secret(secret: str) -> None:
    """Raise BadInput for a secret that is easily guessed."""
    if len(secret) < _SHORTEST:
        raise BadInput(
            f"the secret must have at least {_SHORTEST} characters",
            hint="create a key file: head -c 32 /dev/urandom > wad.key",
        )


def seal(plain: bytes, secret: str, draw: Callable[[int], bytes], cost: Cost = COST) -> bytes:
    """Seal bytes; `draw` returns random ones.  It takes about half a second: not for an event loop.

    Raises BadInput, and Unavailable if there is not enough memory.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    check_secret(secret)
    if len(plain) > LIMIT:
        raise BadInput(f"more than {LIMIT >> 20} MB cannot be sealed")
    salt = draw(_SALT)
    head = _SealedHead(cost, salt, MAGIC + bytes(cost) + salt)
    nonce = draw(_NONCE)
    return (
        head.raw + nonce + AESGCM(_key(secret, head)).encrypt(nonce, zlib.compress(plain), head.raw)
    )


def unseal(sealed: bytes, secret: str) -> bytes:
    """Open sealed bytes.  It takes about half a second.

    Raises BadInput: not a sealed file, wrong secret, or damaged; Unavailable: not enough memory.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = _head(sealed)
    rest = sealed[len(head.raw) :]
    try:
        packed = AESGCM(_key(secret, head)).decrypt(rest[:_NONCE], rest[_NONCE:], head.raw)
    except (InvalidTag, ValueError) as error:
        raise BadInput("the secret is wrong, or the file is damaged") from error
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, LIMIT)
    except zlib.error as error:
        raise BadInput("the file does not contain data that wad has compressed") from error
    if not unpacker.eof:
        raise BadInput(f"the file contains more than {LIMIT >> 20} MB")
    return plain


def _head(sealed: bytes) -> _SealedHead:
    """Parse the head of a file.  Raises BadInput, also if opening the file would cost too much."""
    magic = sealed[: len(MAGIC)]
    begin = len(MAGIC)
    if magic == MAGIC:
        begin += len(COST)
        fields = sealed[len(MAGIC) : begin]
        if len(fields) < len(COST):
            raise BadInput("the file is truncated", hint="copy it again")
        cost = Cost(*fields)
    elif magic in _COSTS:
        cost = _COSTS[magic]
    else:
        raise BadInput("the file was not sealed by wad")
    if not cost.is_bearable:
        raise BadInput(
            f"opening the file would cost too much: scrypt with N = 2^{cost.log_n}, r = {cost.r}, p = {cost.p}",
            hint="wad does not write such files",
        )
    end = begin + _SALT
    return _SealedHead(cost, sealed[begin:end], sealed[:end])


def _key(secret: str, head: _SealedHead) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    cost = head.cost
    try:
        return Scrypt(salt=head.salt, length=32, n=1 << cost.log_n, r=cost.r, p=cost.p).derive(
            secret.encode()
        )
    except MemoryError as error:
        raise Unavailable(
            f"{cost.memory >> 20} MB of memory are needed to derive a key from the secret, and are not free",
            hint="free memory, and try again",
        ) from error
