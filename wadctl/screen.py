"""Terminal output: tables, durations, local times and colours, without control characters from messages.

On a terminal, tables are cut to its width and states are coloured (unless NO_COLOR is set).  In a pipe nothing is cut,
coloured or cleared.
"""

from __future__ import annotations

import os
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final

from wad.core.decoding import decoding
from wad.core.errors import InvalidData

_GAP: Final = "  "
_NARROWEST: Final = 8  # columns to which a cell is cut at most
_COLOURS: Final = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_GOOD: Final = frozenset({"connected", "active", "sent", "delivered", "read", "played"})
_BAD: Final = frozenset(
    {"logged_out", "replaced", "banned", "outdated", "failed", "uncertain", "lost"}
)
_PROSE_LEAST: Final = 16
"""Columns of the terminal that a column of prose keeps, if it needs as many, before other columns are dropped."""
_PROSE: Final = frozenset({"TEXT", "ERROR", "REASON", "WHY", "HOW", "WHAT TO DO", "NAME", "FROM"})
"""Columns of prose: they are cut first, before columns that a user may want to copy."""
_CUT_LAST: Final = frozenset({"STATE"})
"""Columns that are cut last, since their values must stay distinguishable."""
_ALLOWED: Final = "\u200d"  # joins emoji; other invisible characters can deceive


@dataclass(frozen=True)
class Screen:
    """The properties of the output stream.  `width` 0: nothing is cut."""

    terminal: bool
    width: int
    height: int
    colour: bool

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour, where colours are enabled."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colour and text else text

    def state(self, word: str) -> str:
        """A state, in the colour of its meaning."""
        if word in _GOOD:
            return self.paint(word, "green")
        return self.paint(word, "red" if word in _BAD else "yellow")

    def table(
        self,
        heads: Sequence[str],
        rows: Sequence[Sequence[str]],
        states: str = "STATE",
        drop: Sequence[str] = (),
    ) -> str:
        """Rows under headings, never wrapped.  The column named `states` is coloured.

        Where the terminal is too narrow, the columns of `drop` are left out first, in this order; then prose is cut,
        then other columns, and states last.
        """
        heads, rows = self._without(heads, rows, drop)
        texts = [[plain(cell) for cell in row] for row in rows]
        widths = _widths(heads, texts)
        if self.width:
            room = self.width - len(_GAP) * (len(widths) - 1)
            prose = [index for index, head in enumerate(heads) if head in _PROSE]
            others = [index for index, head in enumerate(heads) if head not in _CUT_LAST]
            for among in (prose, others, range(len(widths))):
                widths = _narrowed(widths, room, among)
        lines = [self.paint(_line(heads, widths), "dim")]
        coloured = heads.index(states) if states in heads else -1
        for row in texts:
            cells = [_cell(text, width) for text, width in zip(row, widths, strict=True)]
            if coloured >= 0:
                word = row[coloured]
                cells[coloured] = cells[coloured].replace(word, self.state(word), 1)
            lines.append(_GAP.join(cells).rstrip())
        return "\n".join(lines)

    def _without(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], drop: Sequence[str]
    ) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """The table without as many of the columns `drop` as the width requires."""
        for name in drop:
            widths = _widths(heads, [[plain(cell) for cell in row] for row in rows])
            least = [
                min(width, _PROSE_LEAST) if head in _PROSE else width
                for head, width in zip(heads, widths, strict=True)
            ]
            if not self.width or sum(least) + len(_GAP) * (len(least) - 1) <= self.width:
                break
            at = heads.index(name)
            heads = [*heads[:at], *heads[at + 1 :]]
            rows = [[*row[:at], *row[at + 1 :]] for row in rows]
        return heads, rows

    def fits(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        """Whether this table fits into the width without a cut."""
        widths = _widths(heads, [[plain(cell) for cell in row] for row in rows])
        return not self.width or sum(widths) + len(_GAP) * (len(widths) - 1) <= self.width

    def paragraph(self, head: str, colour: str, text: str, indent: str = "") -> list[str]:
        """A coloured word and a sentence, wrapped at the width."""
        whole = f"{head} {plain(text)}"
        lines = [indent + whole]
        if self.width:
            lines = wrapped(whole, self.width, indent, indent + "  ")
        lines[0] = lines[0].replace(head, self.paint(head, colour), 1)
        return lines

    def fields(self, pairs: Sequence[tuple[str, str]]) -> str:
        """Names and values, one pair per line; a long value continues below itself."""
        width = max((len(name) for name, _ in pairs), default=0)
        indent = " " * (width + len(_GAP))
        text = []
        for name, value in pairs:
            lines = [plain(value)]
            if self.width and len(indent) + columns(lines[0]) > self.width:
                lines = wrapped(lines[0], self.width - len(indent)) or [""]
            head = self.paint(f"{name:{width}}", "dim")
            text.append(f"{head}{_GAP}{lines[0]}".rstrip())
            text += [indent + line for line in lines[1:]]
        return "\n".join(text)


def screen_of(stream: IO[str], environ: os._Environ[str] | dict[str, str]) -> Screen:
    """The properties of `stream`."""
    try:
        terminal = stream.isatty()
        size = os.get_terminal_size(stream.fileno()) if terminal else os.terminal_size((0, 0))
    except (OSError, ValueError):
        terminal, size = False, os.terminal_size((0, 0))
    able = terminal and environ.get("TERM", "") != "dumb"
    width = int(environ["COLUMNS"]) if environ.get("COLUMNS", "").isdecimal() else size.columns
    return Screen(
        terminal=able,
        width=width if terminal else 0,
        height=size.lines,
        colour=able and not environ.get("NO_COLOR"),
    )


# --- cells --------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """The text without characters that move the cursor, change colours or reverse the writing direction."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _ALLOWED else " " if char.isspace() else "\ufffd"
        for char in text
    )


_SHORT: Final = (
    8  # characters of an id that are shown on a terminal; a command accepts any unique beginning
)


def short_id(screen: Screen, ident: str, among: Sequence[str]) -> str:
    """The beginning of an id that is unique among those shown; whole in a pipe."""
    if not screen.terminal:
        return ident
    size = _SHORT
    while size < len(ident) and sum(other.startswith(ident[:size]) for other in among) > 1:
        size += 1
    return ident[:size]


def ascii_controls(text: str) -> str:
    """JSON text with every character escaped that a terminal could obey, or that hides or reverses others."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def columns(text: str) -> int:
    """The number of terminal columns that the text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char) or char in _ALLOWED:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns, with `…` where it was cut."""
    if columns(text) <= width:
        return text
    result, used = "", 1
    for char in text:
        used += _columns(char)
        if used > width:
            break
        result += char
    return result + "…"


def wrapped(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    """The text in lines of at most `width` columns.  A longer word, such as a path, stays whole, to be copied."""
    return textwrap.wrap(
        text,
        max(width, _NARROWEST),
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cell(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - columns(text))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(_cell(text, width) for text, width in zip(cells, widths, strict=True)).rstrip()


def _widths(heads: Sequence[str], texts: Sequence[Sequence[str]]) -> list[int]:
    """The width that each column of a table needs."""
    return [max(map(columns, column)) for column in zip(heads, *texts, strict=True)]


def _narrowed(widths: Sequence[int], room: int, among: Sequence[int]) -> list[int]:
    """The widths after the widest columns of `among` were narrowed to fit, each to a readable rest at most."""
    widths = list(widths)
    while among and sum(widths) > room:
        widest = max(among, key=lambda index: widths[index])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    return widths


# --- times --------------------------------------------------------------------------------------


def local(ms: int | None) -> str:
    """A time in the local time zone; empty when unknown."""
    if ms is None:
        return ""
    try:
        with decoding("a time"):
            return f"{datetime.fromtimestamp(ms / 1000):%Y-%m-%d %H:%M:%S}"  # noqa: DTZ006
    except InvalidData:
        return f"{ms} ms"


def duration(seconds: float | None) -> str:
    """A duration in its two largest units; empty when unknown."""
    if seconds is None:
        return ""
    left = max(0, int(seconds))
    units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)]
    for index, (unit, size) in enumerate(units):
        if left >= size:
            more, smaller = left % size, units[index + 1 :]
            rest = f" {more // smaller[0][1]} {smaller[0][0]}" if smaller and more else ""
            return f"{left // size} {unit}{rest}"
    return "0 s"
