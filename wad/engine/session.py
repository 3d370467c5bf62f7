"""What the library keeps in a session's database, read without the library.

Table and column names: whatsmeow store/sqlstore upgrades, read from databases that neonize 0.5.2 made (engine.md 2, 6).
The file belongs to the library; wad only reads it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from wad.core.errors import Damaged, Unavailable


def _row(path: Path, query: str, *values: object) -> tuple[object, ...] | None:
    """The first row of a query; None also where the library has not made its tables yet."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10)
        try:
            row: tuple[object, ...] | None = db.execute(query, values).fetchone()
            return row
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise Unavailable(f"cannot read {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def check(path: Path) -> None:
    """Raise Damaged when the database cannot be trusted; a missing or empty one is fine.

    `quick_check` reads the whole file: about 2 ms a megabyte, before each start of a worker.
    """
    verdict = _row(path, "PRAGMA quick_check(1)")
    if verdict not in (None, ("ok",)):
        raise Damaged(f"{path} is damaged: {verdict}")


def is_paired(path: Path) -> bool:
    """Whether the database holds a device's keys.  Raises Damaged, Unavailable."""
    return _row(path, "SELECT 1 FROM whatsmeow_device") is not None


def identity(path: Path) -> tuple[str, str, str]:
    """JID (with device), LID and push name of the paired device, empty texts where unknown.  Raises as above."""
    row = _row(path, "SELECT jid, lid, push_name FROM whatsmeow_device") or (None, None, None)
    jid, lid, push_name = (str(value or "") for value in row)
    return jid, lid, push_name


def sent_as(path: Path, secret: bytes) -> str | None:
    """The WhatsApp id that was stored with this message secret, before anything was sent.  Raises as above."""
    row = _row(path, "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ?", secret)
    return None if row is None else str(row[0])
