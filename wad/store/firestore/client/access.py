"""The database and credentials from the settings, without Google's library."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wad.config.settings import StoreSettings
from wad.core.decoding import decoding
from wad.core.errors import BadConfig, InvalidData
from wad.lib.files import read_file

_MAX_FILE: Final = 64 << 10  # bytes of a service account's file


@dataclass(frozen=True, slots=True)
class FirestoreAccess:
    """A database and its credentials: JSON, a file's path, or empty for those of the environment.

    `emulator`: HOST:PORT of an emulator, which needs no credentials; empty for the real Firestore.
    """

    credentials: str = field(default="", repr=False)
    project: str = ""
    database: str = "(default)"
    emulator: str = ""


def access_of(settings: StoreSettings) -> FirestoreAccess:
    """Read the settings.  Raises BadConfig for invalid credentials, before any network access."""
    if settings.firestore_credentials and not settings.firestore_emulator:
        service_account_of(settings.firestore_credentials)
    return FirestoreAccess(
        credentials=settings.firestore_credentials,
        project=settings.firestore_project,
        database=settings.firestore_database,
        emulator=settings.firestore_emulator,
    )


def service_account_of(text: str) -> dict[str, Any]:
    """Parse the JSON of a service account, given as text or as a file's path.  Raises BadConfig without quoting it."""
    if not text.lstrip().startswith("{"):
        try:
            with decoding("it"):
                text = read_file(Path(text), _MAX_FILE).decode()
        except (OSError, InvalidData) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise BadConfig(
                f"store.firestore_credentials: neither JSON nor a readable file: {why}"
            ) from None
    try:
        with decoding("it"):
            found = json.loads(text)
    except InvalidData:
        raise BadConfig("store.firestore_credentials: not JSON") from None
    if not isinstance(found, dict):
        raise BadConfig("store.firestore_credentials: not a JSON object")
    return found
