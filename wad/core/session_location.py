"""Where an account's session lies: on one machine, or on several as devices of their own.  Pure.

A session's keys move on with every message, so that two copies of one are worse than none.  Which instance has it is
written down by the holder of the lease; whoever has none, or a copy of what was moved away, leaves the account alone
and says where it is.  A device that was paired here by itself is another session, and runs.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from wad.core.untrusted import LAST_MS


class SessionLocation(msgspec.Struct, frozen=True, kw_only=True):
    """The instance that has an account's session, and since when, ms since 1970.  `jid`: with its device."""

    account: str
    instance: str
    since_ms: int
    jid: str = ""
    name: str = ""
    phone: str = ""


def is_elsewhere(place: SessionLocation | None, instance: str, jid: str | None) -> bool:
    """Whether this instance must leave the account alone.

    `jid`: of the session that lies here, empty where that is not known; None: no session lies here.
    """
    if place is None or place.instance == instance:
        return False
    return jid in (None, "", place.jid)


def told(place: SessionLocation) -> str:
    """The sentence for whoever asks why the account does not run here."""
    return f"its session lies on {place.instance}, since {day(place.since_ms)}"


def day(ms: int) -> str:
    """A time for people, to the minute."""
    return f"{datetime.fromtimestamp(min(max(ms, 0), LAST_MS) / 1000, UTC):%Y-%m-%d %H:%M} UTC"
