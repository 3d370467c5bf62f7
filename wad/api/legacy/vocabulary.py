"""The words of the backend that wad replaces: how its apps, probes and scripts read what wad knows.

See docs/internals/replaced-backend.md#what-readers-rely-on; a state that it had no word for gets the nearest one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from wad.core.connection import State, Status

if TYPE_CHECKING:
    from wad.flow.leadership.leader import Leader
    from wad.store import Store

Document = dict[str, Any]

NEEDS_QR: Final = (State.AWAITING_SCAN, State.LOGGED_OUT)
"""States in which a person with the phone is needed."""

_FIRST_MS: Final = -62_135_596_800_000  # what a date can say: from the year 1 to the year 9999
_LAST_MS: Final = 253_402_300_799_999
_WORDS: Final = {
    State.PASSIVE: "passive",
    State.CONNECTING: "connecting",
    State.CONNECTED: "connected",
    State.RECONNECTING: "connecting",
    State.LOGGED_OUT: "logged_out",
    State.REPLACED: "disconnected",
    State.BANNED: "disconnected",
    State.OUTDATED: "disconnected",
    State.STOPPED: "disconnected",
    State.ELSEWHERE: "disconnected",
    State.FAILED: "disconnected",
}


def status_word(status: Status) -> str:
    """What an app shows: it lists threads for `connected`, and asks for a code on while `connecting` or `qr_ready`."""
    if status.state is State.AWAITING_SCAN:
        if status.qr:
            return "qr_ready"
        return "needs_qr" if status.pair_until is None else "connecting"
    return _WORDS[status.state]


def mode(leader: Leader) -> str:
    """Whether this instance acts."""
    return "active" if leader.active else "passive"


def lock_status(leader: Leader) -> str:
    """Who holds the lease, seen from here."""
    if leader.valid_for() is not None:
        return "held_by_this_instance"
    return "held_by_other" if leader.holder else "not_held"


def firestore(store: Store) -> str:
    """`disabled` where the store is another one; `disconnected` while what is to be told does not get there."""
    if store.telling is None:
        return "disabled"
    return "disconnected" if store.telling.error else "connected"


def firestore_connected(store: Store) -> bool:
    """The same as yes or no."""
    return firestore(store) == "connected"


@lru_cache(maxsize=1024)
def masked_phone(phone: str) -> str | None:
    """The first four and the last two characters; None where no number is known."""
    if not phone:
        return None
    return f"{phone[:4]}****{phone[-2:]}" if len(phone) >= 6 else "[REDACTED]"


def iso(ms: int) -> str:
    """As JavaScript's toISOString(), which the readers of these documents expect."""
    ms = min(max(ms, _FIRST_MS), _LAST_MS)
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


def timestamp(ms: int) -> dict[str, int]:
    """As a Firestore Timestamp comes out of JSON (docs/internals/replaced-backend.md#what-readers-rely-on)."""
    return {"_seconds": ms // 1000, "_nanoseconds": ms % 1000 * 1_000_000}


def iso_or_null(ms: int | None) -> str | None:
    """The same of a time that may not be known."""
    return None if ms is None else iso(ms)


@lru_cache(maxsize=256)
def _second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=1024)
def shown_id(ident: str, phone: str) -> str:
    """An account's id for everybody: without the number, where it was made from one."""
    digits = phone[1:]
    if len(digits) < 7 or digits not in ident:
        return ident
    return ident.replace(digits, f"{digits[:4]}****{digits[-2:]}")
