"""The location of an account's session: the instance that has it.  Pure.

A session's keys change with every message, so two copies of one session are worse than none.  The holder of the lease
records which instance has the session; an instance without it, or with a copy of a session that was moved away, does
not run the account and reports the location.  A device that was paired on this instance is a different session, and
runs.
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


def is_elsewhere(location: SessionLocation | None, instance: str, jid: str | None) -> bool:
    """Whether this instance must not run the account.

    `jid`: of the session on this machine, empty if unknown; None: there is no session on this machine.
    """
    if location is None or location.instance == instance:
        return False
    return jid in (None, "", location.jid)


def elsewhere_reason(location: SessionLocation) -> str:
    """The reason why the account does not run here."""
    return f"its session is on {location.instance}, since {to_minute(location.since_ms)}"


def to_minute(ms: int) -> str:
    """A time for display, to the minute."""
    return f"{datetime.fromtimestamp(min(max(ms, 0), LAST_MS) / 1000, UTC):%Y-%m-%d %H:%M} UTC"
