"""Facts read out of the library's own file, a 64-bit ELF shared object.

Nothing here runs the library: the dictionary of tokens and the place of the pinned Noise root key are found by parsing
the file: the server needs neither a copied table nor a loaded Go runtime, and always fits the installed version.
"""

from __future__ import annotations

import importlib.util
import struct
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

# go.mau.fi/whatsmeow.WACertPubKey: a package variable, hence in writable .data.
REAL_ROOT_KEY = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")
_RELATIVE = frozenset({8, 1027})  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE
_PT_LOAD = 1


class GoLibFacts(NamedTuple):
    """What the test server has to know about one build of the library."""

    single_tokens: tuple[str, ...]
    double_tokens: tuple[tuple[str, ...], ...]
    root_key_address: int  # virtual address, relative to the load base


def library_path() -> Path:
    """Where the installed neonize keeps its shared object (without importing neonize)."""
    spec = importlib.util.find_spec("neonize")
    assert spec is not None, "neonize is not installed"
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("neonize-linux-*.so"))


@lru_cache
def facts(path: Path) -> GoLibFacts:
    """Parse the ELF file once; ~60 ms for the 18 MB library."""
    data = path.read_bytes()
    phoff, shoff = struct.unpack_from("<QQ", data, 32)
    phsize, phnum, shsize, shnum = struct.unpack_from("<HHHH", data, 54)
    loads: list[tuple[int, int, int]] = []  # file offset, virtual address, size
    for i in range(phnum):
        kind, _, offset, vaddr, _, size = struct.unpack_from("<IIQQQQ", data, phoff + i * phsize)
        if kind == _PT_LOAD:
            loads.append((offset, vaddr, size))
    # Relocations: the on-disk image has zeros where Go keeps pointers.
    pointers: dict[int, int] = {}
    for i in range(shnum):
        kind, _, _, offset, size = struct.unpack_from("<IQQQQ", data, shoff + i * shsize + 4)
        if kind == 4:  # SHT_RELA
            rows = struct.iter_unpack("<QQq", data[offset : offset + size])
            pointers |= {at: addend for at, info, addend in rows if info & 0xFFFFFFFF in _RELATIVE}

    def to_file(vaddr: int) -> int:
        return next(vaddr - va + off for off, va, size in loads if va <= vaddr < va + size)

    def to_vaddr(offset: int) -> int:
        return next(offset - off + va for off, va, size in loads if off <= offset < off + size)

    def go_string(vaddr: int) -> str:
        (length,) = struct.unpack_from("<Q", data, to_file(vaddr + 8))
        if vaddr not in pointers:
            return ""
        start = to_file(pointers[vaddr])
        return data[start : start + length].decode()

    def go_strings(vaddr: int, count: int) -> tuple[str, ...]:
        return tuple(go_string(vaddr + 16 * i) for i in range(count))

    def references(vaddr: int) -> list[int]:
        return [where for where, target in pointers.items() if target == vaddr]

    # SingleByteTokens: array of 236 string headers, [0] = "", [1] = "xmlstreamstart".
    (second,) = references(to_vaddr(data.index(b"xmlstreamstart")))
    single = go_strings(second - 16, 236)
    # DoubleByteTokens: array of 4 slice headers; the first slice starts "read-self", "active".
    (first,) = (
        where
        for where in references(to_vaddr(data.index(b"read-self")))
        if go_strings(where, 2) == ("read-self", "active")
    )
    (header,) = references(first)
    double = []
    for i in range(4):
        (length,) = struct.unpack_from("<Q", data, to_file(header + 24 * i + 8))
        double.append(go_strings(pointers[header + 24 * i], length))
    if data.count(REAL_ROOT_KEY) != 1:
        raise RuntimeError(f"{path}: the Noise root key was not found exactly once")
    return GoLibFacts(single, tuple(double), to_vaddr(data.index(REAL_ROOT_KEY)))
