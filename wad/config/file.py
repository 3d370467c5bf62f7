"""The configuration file: its values, with their line numbers."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from wad.core.decoding import decoding
from wad.core.errors import InvalidData

_LARGEST: Final = 256 << 10  # bytes; the sample file with its comments has about 20 kB
_MOST_DOTS: Final = 2000  # in a line

Key: TypeAlias = tuple[str, ...]
"""The path of a value: `("http", "port")`."""


class InvalidFile(Exception):
    """The file cannot be read, or is not valid TOML; the text names the file, and the line if there is one."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One value of the file; `line` counts from 1.  A table that is not a section is one value as a whole."""

    key: Key
    value: Any
    line: int

    @property
    def name(self) -> str:
        """The key as it is written in TOML."""
        return ".".join(
            name if re.fullmatch(r"[\w-]+", name, re.ASCII) else repr(name) for name in self.key
        )


@dataclass(frozen=True, slots=True)
class File:
    """The contents of a configuration file."""

    statements: tuple[Statement, ...]
    world_readable: bool


def read_file(path: Path, sections: Collection[str]) -> File | None:
    """Read the file; None if it does not exist.  Raises Unusable."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST + 1)
        # An editor may have left a byte order mark and CR LF; TOML allows the latter.
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidFile(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidFile(f"{path}:{line}: is not UTF-8") from None
    except ValueError as error:  # a NUL in the name
        raise InvalidFile(f"{str(path)!r}: cannot be read: {error}") from None
    _check_size(path, data)
    try:
        return File(tuple(_statements(text, sections)), bool(mode & 0o004))
    except _InvalidToml as error:
        raise InvalidFile(f"{path}:{error.line}: {error}") from None


def _check_size(path: Path, data: bytes) -> None:
    """Raise Unusable for a file that takes tomllib too long: its time grows with the square of a key's parts."""
    if len(data) > _LARGEST:
        raise InvalidFile(f"{path}: the file is larger than {_LARGEST >> 10} kB")
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.count(b".") > _MOST_DOTS:
            raise InvalidFile(f"{path}:{number}: the line has more than {_MOST_DOTS} dots")


class _InvalidToml(Exception):
    """A text is not valid TOML; `line` counts from 1."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


def _statements(text: str, sections: Collection[str]) -> Iterator[Statement]:
    document = _loads(text)
    lines = _lines(text)
    for key, value in _flat(document, sections):
        yield Statement(key, value, lines.get(key) or lines[key[:1]])


def _loads(text: str) -> dict[str, Any]:
    try:
        with decoding("it"):
            return tomllib.loads(text)
    except InvalidData as invalid:
        error = invalid.__cause__
        if isinstance(error, RecursionError):
            raise _InvalidToml("not valid: lists or tables are nested too deeply", 1) from None
        found = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
        why = str(error).removesuffix(" (at end of document)")
        why = f"{why[: found.start()]} in column {found[2]}" if found else why
        raise _InvalidToml(f"not valid TOML: {why}", line) from None


def _flat(document: Mapping[str, Any], sections: Collection[str]) -> Iterator[tuple[Key, Any]]:
    for section, content in document.items():
        if section in sections and isinstance(content, dict):
            yield from (((section, name), value) for name, value in content.items())
        else:
            yield (section,), content


_TOKEN: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]",
    re.DOTALL,
)
"""The tokens that determine the end of a TOML statement: strings, comments, brackets, line ends."""


def _lines(text: str) -> dict[Key, int]:
    """The line at which each section and each setting begins, in a text that is valid TOML.

    tomllib has no line numbers.  A statement ends at a line end outside of strings and brackets; tomllib then reads its
    keys.
    """
    lines: dict[Key, int] = {}
    header: Key = ()
    for statement, number in _pieces(text):
        keys = list(_keys(_loads(statement), 2))
        if statement.startswith("["):
            header = keys[-1]
            keys = [header[:length] for length in (1, 2)]
        else:
            keys = [header + key for key in keys]
        for key in keys:
            lines.setdefault(key[:2], number)
            lines.setdefault(key[:1], number)
    return lines


def _pieces(text: str) -> Iterator[tuple[str, int]]:
    """Each statement, with the line at which it begins."""
    begin, depth, line, first = 0, 0, 1, 1
    for token in [*_TOKEN.finditer(text), None]:
        what = "\n" if token is None else token[0]
        if what in ("[", "{"):
            depth += 1
        elif what in ("]", "}"):
            depth -= 1
        line += what.count("\n")
        if what != "\n" or depth:
            continue
        piece = text[begin : len(text) if token is None else token.start()].strip()
        if piece and not piece.startswith("#"):
            yield piece, first
        begin, first = len(text) if token is None else token.end(), line


def _keys(part: object, depth: int) -> Iterator[Key]:
    """The keys of nested tables down to this depth, a table before its contents."""
    if isinstance(part, list):
        part = part[-1] if part else None
    for name, value in part.items() if depth and isinstance(part, dict) else ():
        yield (name,)
        yield from ((name, *rest) for rest in _keys(value, depth - 1))
