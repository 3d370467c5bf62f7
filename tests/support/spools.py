"""A spool file, read and locked by another process than its worker."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.waiting import TIMEOUT


def spooled(file: Path, kind: str) -> Counter[str]:
    """How often each message is in a spool, by its WhatsApp id."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT wa_id FROM events WHERE kind = ?", (kind,))
        return Counter(ident for (ident,) in rows)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Nothing can be stored in a spool while the block runs: another connection writes to it."""
    with closing(sqlite3.connect(file, timeout=TIMEOUT, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")
