"""A session's database, with the tables of the real library."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import baileys_session as sample
from tests.support.baileys_session import GROUP, PEER, key
from wad.core.errors import EngineFailure, StateUnwritable
from wad.engine import EngineOptions, open_engine, session_db
from wad.engine.baileys.translation import Carried, translate

ENGINE = open_engine("neonize", EngineOptions(media=Path("nowhere")))


def carried() -> Carried:
    """The sample's session."""
    return translate(sample.files(), bytes)


async def test_every_table_is_filled(tmp_path: Path) -> None:
    """The library creates the tables; the result is one file, for its owner alone, without other files."""
    file = tmp_path / "a #b?c.db"
    await ENGINE.write_session(file, carried())
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    session_db.check(file)
    assert session_db.is_paired(file)
    assert session_db.identity(file)[:3] == (
        "15550000001:7@s.whatsapp.net", "900015550000001:7@lid", "Shop",
    )  # fmt: skip
    jid = "15550000001:7@s.whatsapp.net"
    with closing(sqlite3.connect(file)) as db:

        def rows(table: str) -> list[tuple[object, ...]]:
            return db.execute(f"SELECT * FROM whatsmeow_{table}").fetchall()

        assert rows("pre_keys") == [(jid, 3, key("one-time"), 1)]
        assert rows("identity_keys") == [(jid, f"{PEER}:0", key("their identity"))]
        assert [row[:2] for row in rows("sessions")] == [(jid, f"{PEER}:0")]
        assert [row[:3] for row in rows("sender_keys")] == [(jid, GROUP, f"{PEER}:0")]
        assert rows("lid_map") == [("900015550000002", "15550000002")]
        assert rows("privacy_tokens") == [(jid, "900015550000002@lid", b"token", 1795597641, None)]
        ((_, ident, data, at, _),) = rows("app_state_sync_keys")
        assert (ident, data, at) == (b"\x00\x00\x00\xff", key("app state"), 1795597641)


async def test_a_refusal_of_the_tables_writes_no_partial_session(tmp_path: Path) -> None:
    """Everything is one transaction."""
    file, twice = tmp_path / "session.db", carried()
    twice.mappings = [("1", "2"), ("3", "2")]
    with pytest.raises(EngineFailure, match="does not fit the library"):
        await ENGINE.write_session(file, twice)
    assert not session_db.is_paired(file)


async def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    """It is reported with the library's error text."""
    with pytest.raises((EngineFailure, StateUnwritable), match="did not create its tables"):
        await ENGINE.write_session(tmp_path / "missing" / "session.db", carried())
