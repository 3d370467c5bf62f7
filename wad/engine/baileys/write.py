"""Writing the database of a session that was converted from another library.

The library creates its tables in a short separate process (schema.py); then this process fills them, before any worker
of the account exists.  Tables: whatsmeow store/sqlstore/upgrades/00-latest-schema.sql.
"""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from wad.core.errors import EngineFailure, StateUnwritable
from wad.engine.baileys.device import Device
from wad.engine.baileys.translation import Carried
from wad.lib.files import sync_file
from wad.lib.module_command import module_command

_TIMEOUT: Final = 60.0
_FULL: Final = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN")


def write(file: Path, session: Carried, environ: Mapping[str, str]) -> None:
    """Create the file, mode 0600, synced, without a log.  Raises EngineFailure, StateUnwritable."""
    _make_tables(file, environ)
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as db:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            _fill(db, session)
            db.execute("COMMIT")
        file.chmod(0o600)
        sync_file(file)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(_FULL):
            raise StateUnwritable(f"cannot write {file}: {error}") from error
        raise EngineFailure(
            f"the session does not fit the library's tables: {error}",
            hint="check that the installed neonize is the version that wad requires",
        ) from error
    except OSError as error:
        raise StateUnwritable(f"cannot write {file}: {error.strerror}") from error


def _make_tables(file: Path, environ: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            module_command("wad.worker.schema", str(file)),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineFailure(f"the library did not create its tables: {error}") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip()[-300:]
        raise EngineFailure(f"the library did not create its tables: {last or done.returncode}")


def _fill(db: sqlite3.Connection, session: Carried) -> None:
    device = session.device
    _insert(db, "device", [_device(device)])
    _insert(db, "pre_keys", ({"jid": device.jid, "key_id": one.number, "key": one.key, "uploaded": True}
                             for one in session.pre_keys))  # fmt: skip
    _insert(db, "identity_keys", ({"our_jid": device.jid, "their_id": one.address, "identity": one.key}
                                  for one in session.identities))  # fmt: skip
    _insert(db, "sessions", ({"our_jid": device.jid, "their_id": one.address, "session": one.record}
                             for one in session.sessions))  # fmt: skip
    _insert(db, "sender_keys", ({"our_jid": device.jid, "chat_id": one.group, "sender_id": one.address,
                                 "sender_key": one.record} for one in session.sender_keys))  # fmt: skip
    _insert(db, "app_state_sync_keys", ({"jid": device.jid, "key_id": one.ident, "key_data": one.key,
                                         "timestamp": one.at, "fingerprint": one.fingerprint}
                                        for one in session.app_state_keys))  # fmt: skip
    _insert(db, "privacy_tokens", ({"our_jid": device.jid, "their_jid": one.jid, "token": one.token,
                                    "timestamp": one.at, "sender_timestamp": one.sender_at}
                                   for one in session.tokens))  # fmt: skip
    _insert(db, "lid_map", ({"lid": lid, "pn": number} for lid, number in session.mappings))


def _device(device: Device) -> dict[str, object]:
    return {
        "jid": device.jid,
        "lid": device.lid or None,
        "registration_id": device.registration_id,
        "noise_key": device.noise_key,
        "identity_key": device.identity_key,
        "signed_pre_key": device.signed_pre_key,
        "signed_pre_key_id": device.signed_pre_key_id,
        "signed_pre_key_sig": device.signed_pre_key_sig,
        "adv_key": device.adv_key,
        "adv_details": device.adv_details,
        "adv_account_sig": device.adv_account_sig,
        "adv_account_sig_key": device.adv_account_sig_key,
        "adv_device_sig": device.adv_device_sig,
        "platform": device.platform,
        "push_name": device.push_name,
    }


def _insert(db: sqlite3.Connection, table: str, rows: Iterable[Mapping[str, object]]) -> None:
    for row in rows:
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        db.execute(
            f"INSERT INTO whatsmeow_{table} ({names}) VALUES ({marks})",
            tuple(row.values()),
        )
