"""What a session's database may consist of, and how much reading it may cost.

Opening a database runs what its schema says: a view in place of a table, a trigger, a generated column, an expression
in an index or a check, a virtual table.  A session that came from elsewhere holds plain tables and indexes of the
library alone, and its queries end after a number of steps that follows from its size.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

LARGEST: Final = 1 << 28  # bytes of a session that is taken in
_MANY: Final = 200  # tables and indexes
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
"""Words that an opening bracket may follow; the name of a referenced table may as well."""
_COMPUTED: Final = frozenset(
    {"as", "case", "cast", "collate", "current_date", "current_time", "current_timestamp", "exists", "filter",
     "generated", "glob", "in", "is", "like", "match", "over", "raise", "regexp", "select", "using", "virtual", "with"}
)  # fmt: skip
"""Words of what would be computed."""


class Declared(NamedTuple):
    """A row of sqlite_schema."""

    kind: object
    name: object
    page: object
    sql: object


def unexpected(declared: Iterable[Declared]) -> str | None:
    """What in a schema is not the library's, in a few words; None where there is nothing of that kind."""
    for number, one in enumerate(declared):
        if number >= _MANY:
            return f"more than {_MANY} tables and indexes"
        if not _is_plain(one):
            return f"a {_shown(one.kind)} {_shown(one.name)} that is not the library's"
    return None


def computed(declared: Iterable[Declared]) -> str | None:
    """What in a schema is neither a table nor an index, in a few words; None where there is nothing of that kind."""
    for one in declared:
        if one.kind not in ("table", "index") or not one.page:
            return f"a {_shown(one.kind)} {_shown(one.name)}, which the library does not make"
    return None


def _is_plain(one: Declared) -> bool:
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
    """Whether columns and constraints compute nothing but a length and comparisons."""
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
    """Whether a bracket after these words calls no function but `length`."""
    if not words or not words[-1][0].isalpha() or words[-1] in _CALLED:
        return True
    return words[-2:-1] == ["references"]


def _shown(value: object) -> str:
    return ascii(value)[:80].strip("'")


class Budget:
    """Ends a query that takes more steps than its database can need; set as the connection's progress handler."""

    STEP: Final = 20_000

    def __init__(self, size: int) -> None:
        """`size`: bytes of the database.  A row of few bytes costs some ten steps of SQLite's machine."""
        self._left = 2_000_000 + 10 * size

    @property
    def spent(self) -> bool:
        """Whether a query was ended."""
        return self._left < 0

    def __call__(self) -> int:
        """Called by SQLite; other than 0 ends the query."""
        self._left -= self.STEP
        return int(self.spent)

    def watch(self, db: sqlite3.Connection) -> None:
        """Count the steps of this connection, and let nothing in its schema call what SQLite thinks unsafe."""
        db.set_progress_handler(self, self.STEP)
        db.execute("PRAGMA trusted_schema = OFF")
        defensive = getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE", None)  # from Python 3.12 on
        if defensive is not None:
            db.setconfig(defensive, True)  # type: ignore[attr-defined,unused-ignore]


def schema_of(db: sqlite3.Connection) -> list[Declared]:
    """All that a database declares, a little more than is taken at most."""
    query = "SELECT type, name, rootpage, sql FROM sqlite_master LIMIT ?"
    return [Declared(*row) for row in db.execute(query, (_MANY + 1,))]
