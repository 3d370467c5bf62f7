"""Facts read from the library's own file, a 64-bit ELF shared object.

Nothing here runs the library: the dictionary of tokens and the address of the pinned Noise root key are found by
parsing the file.  So the server needs neither a copied table nor a loaded Go runtime, and always fits the version.
"""

from __future__ import annotations

import importlib.util
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

# go.mau.fi/whatsmeow.WACertPubKey: a package variable, hence in writable .data.
REAL_ROOT_KEY = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
# whatsmeow's keepalive.go: how long an answer to a ping may take, the least and the most between two pings, and how
# long none may be answered before the connection is given up; variables, too.
PINGS = struct.pack("<4q", *(seconds * 1_000_000_000 for seconds in (10, 20, 30, 180)))
_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_PT_LOAD, _SHT_RELA = 1, 4
_RELATIVE = frozenset({8, 1027})  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE
_SINGLE_TOKENS, _DOUBLE_TABLES = 236, 4


class GoLibFacts(NamedTuple):
    """The data about one build of the library that the test server needs."""

    single_tokens: tuple[str, ...]
    double_tokens: tuple[tuple[str, ...], ...]
    root_key_address: int  # virtual address, relative to the load base
    pings_address: int  # likewise, of four Go durations, see PINGS


class _Elf:
    """A file as the loader sees it: bytes by virtual address, and the targets of pointers."""

    def __init__(self, data: bytes) -> None:
        if not data.startswith(_MAGIC):
            raise ValueError("no 64-bit little-endian ELF file")
        self.data = data
        phoff, shoff = struct.unpack_from("<QQ", data, 32)
        phsize, phnum, shsize, shnum = struct.unpack_from("<HHHH", data, 54)
        self._loads: list[tuple[int, int, int]] = []  # file offset, virtual address, size
        for at in range(phoff, phoff + phnum * phsize, phsize):
            kind, _, offset, vaddr, _, size = struct.unpack_from("<IIQQQQ", data, at)
            if kind == _PT_LOAD:
                self._loads.append((offset, vaddr, size))
        # The file has zeros where Go keeps pointers; relocations contain their values.
        self.pointers: dict[int, int] = {}
        for at in range(shoff, shoff + shnum * shsize, shsize):
            kind, _, _, offset, size = struct.unpack_from("<IQQQQ", data, at + 4)
            if kind == _SHT_RELA:
                rows = struct.iter_unpack("<QQq", data[offset : offset + size])
                self.pointers |= {w: to for w, info, to in rows if info & 0xFFFFFFFF in _RELATIVE}

    def offset(self, vaddr: int) -> int:
        return next(vaddr - va + off for off, va, size in self._loads if va <= vaddr < va + size)

    def address(self, offset: int) -> int:
        return next(offset - o + va for o, va, size in self._loads if o <= offset < o + size)

    def word(self, vaddr: int) -> int:
        return int.from_bytes(self.data[(at := self.offset(vaddr)) : at + 8], "little")

    def go_strings(self, vaddr: int, count: int) -> tuple[str, ...]:
        """An array of Go strings: (pointer, length) each; an empty one points nowhere."""
        found = []
        for header in range(vaddr, vaddr + 16 * count, 16):
            target = self.pointers.get(header)
            start = 0 if target is None else self.offset(target)
            size = 0 if target is None else self.word(header + 8)
            found.append(self.data[start : start + size].decode())
        return tuple(found)

    def references(self, vaddr: int) -> list[int]:
        return [where for where, target in self.pointers.items() if target == vaddr]

    def find(self, wanted: bytes) -> int:
        """The address of bytes that occur."""
        return self.address(self.data.index(wanted))


@cache
def library_path() -> Path:
    """The path of the installed neonize's shared object (without importing neonize).  Raises RuntimeError."""
    spec = importlib.util.find_spec("neonize")
    if spec is None or spec.origin is None:
        raise RuntimeError("neonize is not installed")
    found = sorted(Path(spec.origin).parent.glob("neonize-linux-*.so"))
    if len(found) != 1:
        raise RuntimeError(f"expected one neonize-linux-*.so beside {spec.origin}, found {found}")
    return found[0]


@cache
def facts(path: Path) -> GoLibFacts:
    """Parse the file, once (0.1 s for the 18 MB library).  Raises RuntimeError when it is not built as expected."""
    data = path.read_bytes()
    for what, wanted in ("Noise root key", REAL_ROOT_KEY), ("keepalive times", PINGS):
        if data.count(wanted) != 1:
            raise RuntimeError(f"{path}: the {what} do not stand there exactly once")
    try:
        elf = _Elf(data)
        # SingleByteTokens: array of 236 strings, [0] = "", [1] = "xmlstreamstart".
        (second,) = elf.references(elf.find(b"xmlstreamstart"))
        single = elf.go_strings(second - 16, _SINGLE_TOKENS)
        # DoubleByteTokens: array of 4 slices (pointer, length, capacity); the first starts "read-self", "active".
        (first,) = (
            where
            for where in elf.references(elf.find(b"read-self"))
            if elf.go_strings(where, 2) == ("read-self", "active")
        )
        (table,) = elf.references(first)
        slices = range(table, table + 24 * _DOUBLE_TABLES, 24)
        double = tuple(elf.go_strings(elf.pointers[at], elf.word(at + 8)) for at in slices)
        return GoLibFacts(single, double, elf.find(REAL_ROOT_KEY), elf.find(PINGS))
    except (ValueError, KeyError, StopIteration, struct.error) as error:
        raise RuntimeError(
            f"{path}: the token dictionary is not where it was: {error!r}"
        ) from error
