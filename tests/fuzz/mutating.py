"""Inputs mutated from others by small changes; the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

LONGEST: Final = 8192
"""Bytes of an input."""
_TELLING: Final = bytes.fromhex(
    "0001020304057f8081909192a0c0c1c4c6c7cacbcfd3d9dbdcdddedfff225c7b5b5d7d2c3a"
)
_PIECES: Final = (
    b"\xff" * 4,
    b"\0" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xed\xa0\x80",  # half a surrogate pair
    b"\xe2\x80\xae",  # from right to left
    "٣".encode(),
    b"\r\n",
    b"%00",
    b"../",
    b"__",
    b"@",
    b"1e309",
    b"NaN",
    b"9" * 30,
    b"null",
    b"[" * 50,
    b'{"a":' * 30,
    b"\x91" * 50,
    b"\x81\xa1a" * 30,
)


def mutated(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """An endless stream of inputs."""
    chance = random.Random(seed)
    while True:
        yield _mutated(chance, chance.choice(seeds) if seeds else b"")


def _mutated(chance: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(1 + int(chance.expovariate(0.5))):
        at = chance.randrange(len(found) + 1)
        to = min(len(found), at + chance.randrange(1, 24))
        match chance.randrange(8):
            case 0:
                found[at:to] = b""
            case 1:
                found[at:at] = chance.randbytes(chance.randrange(1, 8))
            case 2:
                found[at : at + 1] = chance.randbytes(1)
            case 3:
                found[at : at + 1] = chance.choice(_TELLING).to_bytes()
            case 4:
                found[at:at] = found[at:to] * chance.randrange(1, 4)
            case 5:
                piece = chance.choice(_PIECES)
                found[at : at + chance.choice((0, len(piece)))] = piece
            case 6 if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            case _ if chance.random() < 0.2:
                del found[at:]
    return bytes(found[:LONGEST])
