"""How an account stood when it came to rest, kept on the disk so that a restart does not change what is said of it.

Pure.  Kept is what WhatsApp or a damaged file has brought about; that it was stopped, or lies elsewhere, is known from
elsewhere.  It is forgotten when the account is connected, or is being paired anew, or an operator starts it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from wad.core.connection import Rest, State, Status

KEPT: Final = frozenset(
    {State.LOGGED_OUT, State.REPLACED, State.BANNED, State.OUTDATED, State.FAILED}
)
"""What is kept."""
_GONE: Final = "its session is not here any more: it was logged out, or its file was taken away"
_SAME_MS: Final = 2000  # between two accounts of one moment, by two clocks


class EndState(msgspec.Struct, frozen=True, kw_only=True):
    """Where an account came to rest, and why.  Times are ms since 1970; `until_ms` 0: until somebody does something.

    `state` is a word, since a later version may know others.  `version`: of wad, where only another one helps.
    """

    state: str
    reason: str
    since_ms: int
    until_ms: int = 0
    version: str = ""


def kept(
    known: EndState | None, status: Status, now: float, wall_ms: int, version: str
) -> EndState | None:
    """What is to be kept of an account that is in this status at `now` (monotonic seconds), which is `wall_ms`."""
    if status.state is State.CONNECTED or status.pair_until is not None:
        return None
    if status.state not in KEPT:
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


def rest(
    known: EndState | None,
    *,
    paired: bool,
    was_paired: bool,
    now: float,
    wall_ms: int,
    version: str,
) -> Rest | None:
    """Where the account still stands; None where it may try.

    `paired`: a session lies on the disk; `was_paired`: it was logged in once, and nobody has begun to pair it anew.
    """
    if known is None or known.state not in KEPT:
        return Rest(State.LOGGED_OUT, _GONE, now, None) if was_paired and not paired else None
    state = State(known.state)
    left_ms = min(known.until_ms - wall_ms, known.until_ms - known.since_ms)
    if known.until_ms and left_ms <= 0:
        return None  # its time is over
    if state is State.OUTDATED and known.version != version:
        return None  # this version may be taken
    if state is State.FAILED and paired:
        return None  # the file that was missing is back
    ago = max(0, wall_ms - known.since_ms) / 1000
    return Rest(state, known.reason, now - ago, now + left_ms / 1000 if known.until_ms else None)
