"""Which Firestore, and as whom: from the settings, without the library."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wad.config.settings import StoreSettings
from wad.core.decoding import decoding
from wad.core.errors import BadConfig, InvalidData
from wad.lib.files import read_file

_LARGEST: Final = 64 << 10  # bytes of a service account's file


@dataclass(frozen=True, slots=True)
class FirestoreAccess:
    """Which database, and as whom.  `credentials`: JSON, a file's name, or empty for what the environment gives.

    `emulator`: HOST:PORT of an emulator, which asks for no credentials; empty for the real one.
    """

    credentials: str = field(default="", repr=False)
    project: str = ""
    database: str = "(default)"
    emulator: str = ""


def access_of(settings: StoreSettings) -> FirestoreAccess:
    """What the settings say.  Raises BadConfig for credentials that cannot be used, before anything is reached for."""
    if settings.firestore_credentials and not settings.firestore_emulator:
        service_account_of(settings.firestore_credentials)
    return FirestoreAccess(
        credentials=settings.firestore_credentials,
        project=settings.firestore_project,
        database=settings.firestore_database,
        emulator=settings.firestore_emulator,
    )


def service_account_of(text: str) -> dict[str, Any]:
    """The JSON of a service account, or of the file that has it.  Raises BadConfig; quotes nothing of it."""
    if not text.lstrip().startswith("{"):
        try:
            with decoding("it"):
                text = read_file(Path(text), _LARGEST).decode()
        except (OSError, InvalidData) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise BadConfig(
                f"store.firestore_credentials: neither JSON nor a file that can be read: {why}"
            ) from None
    try:
        with decoding("it"):
            found = json.loads(text)
    except InvalidData:
        raise BadConfig("store.firestore_credentials: not JSON") from None
    if not isinstance(found, dict):
        raise BadConfig("store.firestore_credentials: not a JSON object")
    return found
