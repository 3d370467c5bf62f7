"""The view of a copy of the store in replies."""

from __future__ import annotations

import msgspec


class LegacyImportProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of an import of legacy documents.

    `threads` and `messages` are to be read, `read` messages were; of these `imported` are new here, `known` were
    stored before, and `skipped` are wad's own, marked as duplicates, or not messages.
    """

    threads: int
    messages: int
    read: int
    imported: int
    known: int
    skipped: int


class CopyProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress in documents: `pushed` are written, `waiting` are left, `refused` by Firestore (see the log)."""

    pushed: int
    waiting: int
    refused: int
