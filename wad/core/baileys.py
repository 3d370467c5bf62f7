"""The files of a Baileys session directory: what each contains, by its name, and whether wad reads it.

Baileys' `useMultiFileAuthState` writes one file per key, KIND-ID.json, with `/` written as `__` and `:` as `-`
(Baileys 7.0.0-rc14, lib/Utils/use-multi-file-auth-state.js; kinds: lib/Types/Auth.d.ts).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CREDS: Final = "creds.json"

FILE_LIMIT: Final = 3 << 20
"""Bytes of one file; the longest that were seen have some hundred KB."""
BATCH_LIMIT: Final = 2 << 20
"""Bytes of files after which a batch is sent; with one more file it still fits into a frame."""
FILES_LIMIT: Final = 200_000
TOTAL_LIMIT: Final = 256 << 20


class BaileysFile(StrEnum):
    """What a file contains; the value is the beginning of its name."""

    CREDS = "creds"
    PRE_KEY = "pre-key"
    SESSION = "session"
    SENDER_KEY = "sender-key"
    IDENTITY = "identity-key"
    APP_STATE_KEY = "app-state-sync-key"
    LID_MAPPING = "lid-mapping"
    TOKEN = "tctoken"
    SENDER_KEY_MEMORY = "sender-key-memory"
    APP_STATE_VERSION = "app-state-sync-version"
    DEVICES = "device-list"
    OTHER = ""


SKIPPED: Final = {
    BaileysFile.SENDER_KEY_MEMORY: "wad distributes its own sender keys again",
    BaileysFile.APP_STATE_VERSION: "contacts and settings are read from WhatsApp again when they next change",
    BaileysFile.DEVICES: "wad requests the device list from WhatsApp again",
    BaileysFile.OTHER: "not a session file",
}
"""Kinds whose files are never read, and why."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """An operator's options for an import; an empty text leaves the choice to wad.  `directory`: its name."""

    ident: str = ""
    name: str = ""
    directory: str = ""
    skip_damaged: bool = False


def kind_of(name: str) -> BaileysFile:
    """What the file with this name contains."""
    if name == CREDS:
        return BaileysFile.CREDS
    if not name.endswith(".json"):
        return BaileysFile.OTHER
    # The longer name first: `sender-key-memory-...` also begins with `sender-key-`.
    for kind in sorted(BaileysFile, key=len, reverse=True):
        if kind and name.startswith(f"{kind}-") and len(name) > len(f"{kind}-.json"):
            return kind
    return BaileysFile.OTHER


def ident_of(name: str, kind: BaileysFile) -> str:
    """The part of a file's name that names the key, as it is written in the name."""
    return name.removeprefix(f"{kind}-").removesuffix(".json")
