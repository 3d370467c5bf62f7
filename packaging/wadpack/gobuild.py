"""What a Go binary says of itself: the modules compiled into it (the format of Go 1.18's debug/buildinfo)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\xff Go buildinf:"
_HEADER: Final = 32  # bytes before the strings
_SENTINEL: Final = 16  # bytes around the list of modules


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module at one version."""

    path: str
    version: str


def modules(library: Path) -> list[Module]:
    """The modules that a library was built from, without its own.  Raises ValueError when it does not say."""
    data = library.read_bytes()
    at = data.find(_MAGIC)
    if at < 0:
        raise ValueError(f"{library.name} does not say what it was built from")
    length, at = _varint(data, at + _HEADER)  # the version of Go
    length, at = _varint(data, at + length)
    text = data[at + _SENTINEL : at + length - _SENTINEL].decode()
    rows = (line.split("\t") for line in text.splitlines())
    return [Module(row[1], row[2]) for row in rows if row[0] == "dep"]


def go_version(library: Path) -> str:
    """The version of Go that a library was built with, as `go1.24.1`.  Raises ValueError when it does not say."""
    data = library.read_bytes()
    at = data.find(_MAGIC)
    if at < 0:
        raise ValueError(f"{library.name} does not say what it was built with")
    length, at = _varint(data, at + _HEADER)
    return data[at : at + length].decode().split()[0]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
