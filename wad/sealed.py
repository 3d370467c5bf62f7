"""Bytes sealed with a secret: one file that only who knows the secret can open, and in which nothing can be changed.

    magic | salt (16) | nonce (12) | AES-256-GCM of the compressed bytes, magic and salt authenticated with them

The key is made from the secret by scrypt (32 MB, some 0.1 s), so that a passphrase cannot be guessed quickly.
The only module that knows the library for it, which is imported when it is needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from wad.core.errors import BadInput

MAGIC: Final = b"wad sealed 1\n"
LIMIT: Final = 1 << 28  # bytes before they are sealed
_SALT, _NONCE = 16, 12  # bytes
_SHORTEST: Final = 12  # characters of a secret


def check_secret(secret: str) -> None:
    """Raise BadInput for one that is soon guessed."""
    if len(secret) < _SHORTEST:
        raise BadInput(
            f"the secret must have at least {_SHORTEST} characters",
            hint="make a key file: head -c 32 /dev/urandom > wad.key",
        )


def seal(plain: bytes, secret: str, draw: Callable[[int], bytes]) -> bytes:
    """The sealed bytes; `draw` gives random ones.  Takes a while: not for an event loop.  Raises BadInput."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    check_secret(secret)
    if len(plain) > LIMIT:
        raise BadInput(f"more than {LIMIT >> 20} MB cannot be sealed")
    head = MAGIC + draw(_SALT)
    nonce = draw(_NONCE)
    return head + nonce + AESGCM(_key(secret, head)).encrypt(nonce, zlib.compress(plain), head)


def unseal(sealed: bytes, secret: str) -> bytes:
    """What was sealed.  Takes a while.  Raises BadInput: not ours, another secret, or damaged."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not sealed.startswith(MAGIC):
        raise BadInput("this is no file that wad has sealed")
    begin = len(MAGIC) + _SALT
    head, nonce, rest = sealed[:begin], sealed[begin : begin + _NONCE], sealed[begin + _NONCE :]
    try:
        packed = AESGCM(_key(secret, head)).decrypt(nonce, rest, head)
    except (InvalidTag, ValueError) as error:
        raise BadInput("the secret is another one, or the file is damaged") from error
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(packed, LIMIT)
    if not unpacker.eof:
        raise BadInput(f"the file holds more than {LIMIT >> 20} MB")
    return plain


def _key(secret: str, head: bytes) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    salt = head[len(MAGIC) :]
    return Scrypt(salt=salt, length=32, n=1 << 15, r=8, p=1).derive(secret.encode())
