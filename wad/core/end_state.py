"""The end state of an account, stored on the disk so that a restart of the daemon does not change it.  Pure.

Only states that WhatsApp or a damaged file has caused are stored; that an account was stopped, or is on another
machine, is recorded elsewhere.  The end state is deleted when the account is connected, when it is being paired again,
or when an operator starts it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from wad.core.connection import LastingState, State, Status

STORED_STATES: Final = frozenset(
    {State.LOGGED_OUT, State.REPLACED, State.BANNED, State.OUTDATED, State.FAILED}
)
"""The states that are stored."""
_GONE: Final = "its session does not exist any more: the account was logged out, or the session file was removed"
_SAME_MS: Final = 2000  # between two readings of the same moment on two clocks


class EndState(msgspec.Struct, frozen=True, kw_only=True):
    """The end state of an account, and its reason.  Times are ms since 1970; `until_ms` 0: until an operator acts.

    `state` is a plain text, since a later version may have other states.  `version`: wad's own, if only another version
    helps.
    """

    state: str
    reason: str
    since_ms: int
    until_ms: int = 0
    version: str = ""


def to_store(
    known: EndState | None, status: Status, now: float, wall_ms: int, version: str
) -> EndState | None:
    """The end state to store for an account with this status at `now` (monotonic seconds), which is `wall_ms`."""
    if status.state is State.CONNECTED or status.pair_until is not None:
        return None
    if status.state not in STORED_STATES:
        return known
    until = status.retry_at
    found = EndState(
        state=status.state,
        reason=status.reason,
        since_ms=wall_ms - round((now - status.since) * 1000),
        until_ms=0 if until is None else wall_ms + round((until - now) * 1000),
        version=version if status.state is State.OUTDATED else "",
    )
    return known if known is not None and _alike(known, found) else found


def _alike(one: EndState, other: EndState) -> bool:
    words = (one.state, one.reason, one.version) == (other.state, other.reason, other.version)
    times = max(abs(one.since_ms - other.since_ms), abs(one.until_ms - other.until_ms))
    return words and times <= _SAME_MS


def lasting_state(
    known: EndState | None,
    *,
    paired: bool,
    was_paired: bool,
    now: float,
    wall_ms: int,
    version: str,
) -> LastingState | None:
    """The state that still applies to the account; None if it may connect.

    `paired`: a session is stored on this disk; `was_paired`: the account was logged in once and has not been paired
    again since.
    """
    if known is None or known.state not in STORED_STATES:
        return (
            LastingState(State.LOGGED_OUT, _GONE, now, None) if was_paired and not paired else None
        )
    state = State(known.state)
    left_ms = min(known.until_ms - wall_ms, known.until_ms - known.since_ms)
    if known.until_ms and left_ms <= 0:
        return None  # it has expired
    if state is State.OUTDATED and known.version != version:
        return None  # WhatsApp may accept this version
    if state is State.FAILED and paired:
        return None  # the file that was missing is back
    ago = max(0, wall_ms - known.since_ms) / 1000
    return LastingState(
        state, known.reason, now - ago, now + left_ms / 1000 if known.until_ms else None
    )
