"""The files of a Baileys session directory, by their names: what each holds, and whether wad has a use for it.

Baileys' `useMultiFileAuthState` writes one file a key, KIND-ID.json, with `/` written as `__` and `:` as `-`
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
    """What a file holds; the value is how its name begins."""

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


LEFT: Final = {
    BaileysFile.SENDER_KEY_MEMORY: "wad hands out its own sender keys anew",
    BaileysFile.APP_STATE_VERSION: "contacts and settings are read from WhatsApp again when they next change",
    BaileysFile.DEVICES: "WhatsApp is asked again",
    BaileysFile.OTHER: "no file of a session",
}
"""Kinds whose files are never read, and why not."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an operator asks for; empty texts where it is left to us.  `directory` is the name of the session's."""

    ident: str = ""
    name: str = ""
    directory: str = ""
    skip_damaged: bool = False


def kind_of(name: str) -> BaileysFile:
    """What the file of this name holds."""
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
