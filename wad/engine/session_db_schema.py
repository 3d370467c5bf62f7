"""The allowed schema of a session's database: plain tables and indexes of the library; nothing that is computed.

The worker writes it, and some sessions come from elsewhere: `wad.lib.foreign_sqlite` describes the other rules for
reading it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from wad.lib.foreign_sqlite import MAX_OBJECTS, SchemaObject, shown

LARGEST: Final = 1 << 28  # bytes of a session that is accepted
_LONGEST: Final = 10_000  # characters of one declaration

_TABLE: Final = re.compile(
    r"CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<quote>[\"']?)(?P<name>whatsmeow_[a-z0-9_]{1,50})(?P=quote)"
    r"\s*\((?P<columns>.*)\)(?:\s*WITHOUT\s+ROWID)?",
    re.IGNORECASE | re.DOTALL,
)
_INDEX: Final = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>[a-z0-9_]{1,100})\s+ON\s+whatsmeow_[a-z0-9_]{1,50}"
    r"\s*\(\s*[a-z0-9_]+(?:\s+(?:ASC|DESC))?(?:\s*,\s*[a-z0-9_]+(?:\s+(?:ASC|DESC))?)*\s*\)",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(
    r"\s+|[A-Za-z_][A-Za-z0-9_]*|[0-9]{1,20}|'[A-Za-z0-9_ .-]*'|[(),]|[<>]=?|="
)
_CALLED: Final = frozenset(("check", "key", "length", "unique"))
"""Keywords that an opening bracket may follow; the name of a referenced table may as well."""
_COMPUTED: Final = frozenset(
    {"as", "case", "cast", "collate", "current_date", "current_time", "current_timestamp", "exists", "filter",
     "generated", "glob", "in", "is", "like", "match", "over", "raise", "regexp", "select", "using", "virtual", "with"}
)  # fmt: skip
"""Keywords of computed expressions."""


def unexpected(declared: Iterable[SchemaObject]) -> str | None:
    """A short description of the first unexpected item in a schema; None if there is none."""
    for number, one in enumerate(declared):
        if number >= MAX_OBJECTS:
            return f"more than {MAX_OBJECTS} tables and indexes"
        if not _is_plain(one):
            return f"a {shown(one.kind)} {shown(one.name)} that is not the library's"
    return None


def _is_plain(one: SchemaObject) -> bool:
    if not isinstance(one.name, str) or not isinstance(one.page, int) or one.page < 1:
        return False
    if one.kind == "index" and one.sql is None:
        return one.name.startswith("sqlite_autoindex_whatsmeow_")
    if not isinstance(one.sql, str) or len(one.sql) > _LONGEST:
        return False
    if one.kind == "index":
        index = _INDEX.fullmatch(one.sql)
        return index is not None and index["name"] == one.name
    table = _TABLE.fullmatch(one.sql)
    return (
        one.kind == "table"
        and table is not None
        and table["name"] == one.name
        and _are_plain(table["columns"])
    )


def _are_plain(columns: str) -> bool:
    """Whether columns and constraints compute nothing except a length and comparisons."""
    words: list[str] = []
    end = 0
    for token in _TOKEN.finditer(columns):
        if token.start() != end:
            return False
        end = token.end()
        if token[0].isspace():
            continue
        word = token[0].lower()
        if word in _COMPUTED:
            return False
        if word == "(" and not _may_open(words):
            return False
        words.append(word)
    return end == len(columns)


def _may_open(words: list[str]) -> bool:
    """Whether a bracket after these tokens calls no function except `length`."""
    if not words or not words[-1][0].isalpha() or words[-1] in _CALLED:
        return True
    return words[-2:-1] == ["references"]
