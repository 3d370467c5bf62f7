"""Bytes sealed with a secret: one file that only who knows the secret can open, and in which nothing can be changed.

    magic 2 | log2 of N, r, p (a byte each) | salt (16) | nonce (12) | AES-256-GCM of the compressed bytes
    magic 1 | salt (16) | nonce (12) | the same, N = 2^15, r = 8, p = 1: written until 2026, still read

All that stands before the nonce is authenticated with the bytes.  The key is made from the secret by scrypt with what
OWASP's Password Storage Cheat Sheet names first, N = 2^17, r = 8, p = 1 (128 MB, some 0.5 s), so that a passphrase
cannot be guessed quickly.  The parameters of a file are bounded before they are used: whoever made it chose them.
The only module that knows the library for it, which is imported when it is needed.
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
    """What it takes to make a key of a secret, as scrypt names it: N is 2 to the power of `log_n`."""

    log_n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes."""
        return 128 * self.r << self.log_n

    @property
    def is_bearable(self) -> bool:
        """Whether a file may ask for it: at most twice the memory and four times the time of our own."""
        # r and log_n first: a number of 2^255 bytes is none to compute with.
        return (
            1 <= self.log_n <= 20
            and 1 <= self.r <= 32
            and 1 <= self.p <= 16
            and self.memory <= 2 * COST.memory
            and self.memory * self.p <= 4 * COST.memory
        )


COST: Final = Cost(17, 8, 1)
_COSTS: Final = {b"wad sealed 1\n": Cost(15, 8, 1)}
"""By the heads of files that do not name it themselves."""


class _SealedHead(NamedTuple):
    cost: Cost
    salt: bytes
    raw: bytes
    """All of it, magic included."""


def check_secret(secret: str) -> None:
    """Raise BadInput for one that is soon guessed."""
    if len(secret) < _SHORTEST:
        raise BadInput(
            f"the secret must have at least {_SHORTEST} characters",
            hint="make a key file: head -c 32 /dev/urandom > wad.key",
        )


def seal(plain: bytes, secret: str, draw: Callable[[int], bytes], cost: Cost = COST) -> bytes:
    """The sealed bytes; `draw` gives random ones.  Takes a while: not for an event loop.

    Raises BadInput, and Unavailable where there is no memory for it.
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
    """What was sealed.  Takes a while.

    Raises BadInput: not ours, another secret, or damaged; Unavailable: there is no memory for it.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    head = _head(sealed)
    rest = sealed[len(head.raw) :]
    try:
        packed = AESGCM(_key(secret, head)).decrypt(rest[:_NONCE], rest[_NONCE:], head.raw)
    except (InvalidTag, ValueError) as error:
        raise BadInput("the secret is another one, or the file is damaged") from error
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, LIMIT)
    except zlib.error as error:
        raise BadInput("the file holds nothing that wad has packed") from error
    if not unpacker.eof:
        raise BadInput(f"the file holds more than {LIMIT >> 20} MB")
    return plain


def _head(sealed: bytes) -> _SealedHead:
    """What a file says of itself.  Raises BadInput, also where opening it would cost too much."""
    magic = sealed[: len(MAGIC)]
    begin = len(MAGIC)
    if magic == MAGIC:
        begin += len(COST)
        fields = sealed[len(MAGIC) : begin]
        if len(fields) < len(COST):
            raise BadInput("the file is cut off")
        cost = Cost(*fields)
    elif magic in _COSTS:
        cost = _COSTS[magic]
    else:
        raise BadInput("this is no file that wad has sealed")
    if not cost.is_bearable:
        raise BadInput(
            f"opening the file would take too much: scrypt with N = 2^{cost.log_n}, r = {cost.r}, p = {cost.p}",
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
            f"there are no {cost.memory >> 20} MB of memory to make a key of the secret"
        ) from error
