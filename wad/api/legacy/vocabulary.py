"""The vocabulary of the replaced backend: status values, times and masked numbers for its apps, probes and scripts.

docs/internals/replaced-backend.md#what-readers-rely-on defines it; other states are mapped to the nearest one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from wad.core.connection import State, Status

if TYPE_CHECKING:
    from wad.flow.leadership.leader import Leader
    from wad.store import Store

Document = dict[str, Any]

NEEDS_QR: Final = (State.AWAITING_SCAN, State.LOGGED_OUT)
"""States in which the user must scan a QR code."""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_FIRST_MS: Final = -62_135_596_800_000  # the range of a datetime: from the year 1 to the year 9999
_LAST_MS: Final = 253_402_300_799_999
_STATUS: Final = {
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
    """The status for the apps, which list threads if `connected`, and poll for a code if `connecting` or `qr_ready`."""
    if status.state is State.AWAITING_SCAN:
        if status.qr:
            return "qr_ready"
        return "needs_qr" if status.pair_until is None else "connecting"
    return _STATUS[status.state]


def mode(leader: Leader) -> str:
    """Whether this instance is active or passive."""
    return "active" if leader.active else "passive"


def lock_status(leader: Leader) -> str:
    """Who holds the lease, as seen from this instance."""
    if leader.valid_for() is not None:
        return "held_by_this_instance"
    return "held_by_other" if leader.holder else "not_held"


def firestore(store: Store) -> str:
    """The state of Firestore: `disabled` for another store, `disconnected` while uploads fail, else `connected`."""
    if store.sync_status is None:
        return "disabled"
    return "disconnected" if store.sync_status.error else "connected"


def firestore_connected(store: Store) -> bool:
    """Whether firestore() is `connected`."""
    return firestore(store) == "connected"


@lru_cache(maxsize=1024)
def masked_phone(phone: str) -> str | None:
    """The first four and the last two characters of a number; None for an empty one."""
    if not phone:
        return None
    return f"{phone[:4]}****{phone[-2:]}" if len(phone) >= 6 else "[REDACTED]"


def iso(ms: int) -> str:
    """A time in the format of JavaScript's toISOString(), which the apps expect."""
    ms = min(max(ms, _FIRST_MS), _LAST_MS)
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


def timestamp(ms: int) -> dict[str, int]:
    """A time in the JSON form of a Firestore Timestamp (docs/internals/replaced-backend.md#what-readers-rely-on)."""
    return {"_seconds": ms // 1000, "_nanoseconds": ms % 1000 * 1_000_000}


def exact_timestamp(moment: datetime) -> dict[str, int]:
    """A time as timestamp(), with its microseconds: the apps sort by them."""
    return {
        "_seconds": (moment - _EPOCH) // timedelta(seconds=1),
        "_nanoseconds": moment.microsecond * 1000,
    }


def iso_or_null(ms: int | None) -> str | None:
    """A time as iso(); None for an unknown one."""
    return None if ms is None else iso(ms)


@lru_cache(maxsize=256)
def _second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=1024)
def shown_id(ident: str, phone: str) -> str:
    """An account's id for unauthenticated callers: with the number masked if the id was derived from it."""
    digits = phone[1:]
    if len(digits) < 7 or digits not in ident:
        return ident
    return ident.replace(digits, f"{digits[:4]}****{digits[-2:]}")
