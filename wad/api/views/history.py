"""The views of a backfill and of a repair of the history in replies."""

from __future__ import annotations

import msgspec


class BackfillProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a backfill: history was requested for `threads` of `total` conversations (null: not counted yet).

    `messages` counts new messages; `errors` counts conversations without a reply and an early end of the run.
    `thread` was the last, and `error` is its error or the one that ended the run.
    """

    account: str
    total: int | None
    threads: int
    messages: int
    errors: int
    over: bool
    thread: str
    error: str


class HistoryRepaired(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a repair.  `asked`: unreadable or lost messages that were requested from the phone again.

    `recounted`: conversations whose last message or counts were wrong.
    """

    account: str
    asked: int
    recounted: int
