"""The view of a copy of the store in replies."""

from __future__ import annotations

import msgspec


class CopyProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress in documents: `pushed` are written, `waiting` are left, `refused` by Firestore (see the log)."""

    pushed: int
    waiting: int
    refused: int
