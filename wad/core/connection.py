"""The state of one account's connection to WhatsApp, and what to do next: a pure state machine.

Rule 1: everything that decides whether a worker should run, and what an operator is told, lives in this file.
Rule 2: an outage of any length is `reconnecting`; only WhatsApp's own word (logged out) or an operator ends a session,
and nothing in here removes one.
Rule 3: a QR code is shown only while somebody asked for it (the pairing window), and never because of an outage.
Rule 4: a worker that gets nowhere is replaced.  The library may dial, wait or show an old code for ever without a word,
and its own pauses between tries grow without bound.
Rule 5: a login is no success until it has lasted.  Failures in a row are forgotten after a stable minute of connection,
however often an account logs in before that; the first try after one comes at once.

    passive        this instance does not hold the lease; no worker
    connecting     a worker runs and has not connected yet
    awaiting_scan  not paired; a QR code is shown while the pairing window is open
    connected      logged in
    reconnecting   was connected, or could not connect, and goes on trying
    logged_out     the phone or the operator removed this device; the session is of no more use
    replaced       another client took over this session; fighting it would log both out
    banned         WhatsApp refuses the account until a time
    outdated       WhatsApp refuses the library's version
    stopped        the operator stopped it
    elsewhere      its session lies on another machine, or is on its way there
    failed         something here is broken that trying again does not mend

What the library does behind the transitions: docs/internals/library.md#connecting-and-stopping and
docs/internals/whatsapp-protocol.md#refusals-and-stream-errors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Final, assert_never

from wad.core.errors import Conflict


class State(StrEnum):
    """Where an account stands; the module's head says what each means."""

    PASSIVE = "passive"
    CONNECTING = "connecting"
    AWAITING_SCAN = "awaiting_scan"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    LOGGED_OUT = "logged_out"
    REPLACED = "replaced"
    BANNED = "banned"
    OUTDATED = "outdated"
    STOPPED = "stopped"
    ELSEWHERE = "elsewhere"
    FAILED = "failed"


# --- what happens to an account ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rest:
    """Where an account came to rest before, and still stands.  Times are monotonic seconds, `since` in the past.

    `retry_at`: when it tries again by itself; None: not at all.
    """

    state: State
    reason: str
    since: float
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Begin:
    """The lease is ours, or the operator wants it to run.  `paired`: a session lies on the disk.

    `elsewhere`: why it must not run here all the same; empty where it may.  `rest`: how it ended before this process,
    or before the lease was lost (`core.ending`); None where it may try.
    """

    paired: bool
    elsewhere: str = ""
    rest: Rest | None = None


NO_LEASE: Final = "this instance does not hold the lease"


@dataclass(frozen=True, slots=True)
class StepDown:
    """No worker may act: the lease is gone, or the account is."""

    why: str = NO_LEASE


@dataclass(frozen=True, slots=True)
class Stop:
    """The operator stops the account, or has stopped it at `since` (monotonic seconds; None: now).

    `why`: empty, or why it is stopped although no operator said so.
    """

    since: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """The operator asks for a QR code until `until` (monotonic seconds).  `paired`: a session lies on the disk."""

    until: float
    paired: bool


@dataclass(frozen=True, slots=True)
class Launched:
    """Its worker process was started; until then it may have waited for its turn."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The operator wants a fresh worker."""


@dataclass(frozen=True, slots=True)
class QrShown:
    """WhatsApp gave a QR code; it replaces the one before."""

    code: str


@dataclass(frozen=True, slots=True)
class QrOver:
    """WhatsApp gives no more QR codes on this connection."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The phone scanned the code."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Logged in."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection went; the library tries again by itself."""

    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker process is gone; `why` is one sentence."""

    why: str


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The phone, WhatsApp or the operator removed this device."""

    why: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another client logged in with this session."""


@dataclass(frozen=True, slots=True)
class Banned:
    """WhatsApp refuses the account for `seconds` (0: it did not say)."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Outdated:
    """WhatsApp refuses the version of the library."""

    why: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Something on this machine is broken, e.g. a damaged session file that was set aside."""

    why: str


@dataclass(frozen=True, slots=True)
class Due:
    """The time of `retry_at`, `worker_until` or `settles_at`, or the end of the pairing window, has come."""


Input = (
    Begin | StepDown | Stop | Pair | Launched | Restart | QrShown | QrOver | Paired | Connected | Lost | Ended
    | LoggedOut | Replaced | Banned | Outdated | Broken | Due
)  # fmt: skip

# --- where it stands, and the rules -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """Where an account stands.  Times are monotonic seconds.

    `worker`: a worker process should run now.  `launched_at`: when it was started, None while it waits for its turn.
    `worker_until`: when it is replaced, unless it gets further before.  `retry_at`: when to start the next one.
    `attempts`: failures in a row.  `settles_at`: when they are forgotten, if the connection lasts until then.
    """

    state: State = State.PASSIVE
    reason: str = "the lease is not held"
    since: float = 0.0
    worker: bool = False
    launched_at: float | None = None
    worker_until: float | None = None
    paired: bool = False
    qr: str = ""
    retry_at: float | None = None
    pair_until: float | None = None
    attempts: int = 0
    settles_at: float | None = None

    @property
    def action(self) -> str:
        """What a person can do now, or an empty text when there is nothing to do."""
        if self.state is State.AWAITING_SCAN and not self.qr:
            return "wadctl account pair ACCOUNT" if self.pair_until is None else "wait for the code"
        return _ACTIONS.get(self.state, "")


_ACTIONS: Final = {
    State.AWAITING_SCAN: "scan the code: WhatsApp on the phone, Linked devices, Link a device",
    State.LOGGED_OUT: "wadctl account pair ACCOUNT",
    State.REPLACED: "stop the other client, then wadctl account start ACCOUNT",
    State.BANNED: "wait; open WhatsApp on the phone to see why",
    State.OUTDATED: "upgrade wad (apt install --only-upgrade wad)",
    State.STOPPED: "wadctl account start ACCOUNT",
    State.ELSEWHERE: "wadctl session export ACCOUNT there, import it here; or let that machine be active",
    State.FAILED: "see the reason; wadctl account start ACCOUNT tries again",
}

ENDED: Final = frozenset(
    {State.LOGGED_OUT, State.REPLACED, State.STOPPED, State.ELSEWHERE, State.FAILED}
)
"""States that only an operator ends (`replaced` and `elsewhere` are looked at when the lease is won anew)."""

WORKING: Final = frozenset(
    {State.CONNECTING, State.AWAITING_SCAN, State.CONNECTED, State.RECONNECTING}
)
"""States in which a worker may run."""


@dataclass(frozen=True, slots=True)
class RetryDelays:
    """How long to wait, in seconds.

    Between tries `base`, doubled up to `cap`; `outdated` is slow, since only an upgrade helps.  A worker may take
    `library` to connect, or to connect again, by itself.  A code is followed by the next one within `code` (the library
    changes it after 60 s at most), and a list of codes is asked for `lists` after the one before at the earliest.

    A connection that was kept for `stable` is a success.  After a shorter one the library reconnects by itself, and at
    once; after `losses` of these in a row (a number) the worker is ended, and the next one waits as after a failure,
    `stable` at most.
    """

    base: float = 1.0
    cap: float = 300.0
    outdated: float = 3600.0
    banned: float = 900.0
    library: float = 120.0
    code: float = 75.0
    lists: float = 5.0
    stable: float = 60.0
    losses: int = 3

    def delay(self, attempts: int, chance: float) -> float:
        """Capped exponential delay before try number `attempts`; `chance` in [0, 1) is the jitter."""
        ceiling = min(self.cap, self.base * 2.0 ** min(attempts, 30))
        return ceiling / 2 + ceiling / 2 * chance


def step(status: Status, event: Input, now: float, chance: float, patience: RetryDelays) -> Status:
    """Where the account stands after `event` at `now` (monotonic seconds); `chance` in [0, 1).

    Total: an event that means nothing in a state changes nothing.  Raises Conflict for an operator's order that the
    state does not allow.
    """
    after = _step(status, event, now, chance, patience)
    if after.settles_at is not None and after.state is not State.CONNECTED:
        after = replace(after, settles_at=None)
    if after.launched_at is not None and not after.worker:
        after = replace(after, launched_at=None)
    if after.state is status.state or _says_since(event, after.state):
        return after
    return replace(after, since=now)


def _says_since(event: Input, state: State) -> bool:
    """Whether it led to a state that lasts since before."""
    match event:
        case Begin(rest=Rest(was)):
            return was is state
        case Stop(since):
            return since is not None
    return False


def _step(status: Status, event: Input, now: float, chance: float, patience: RetryDelays) -> Status:
    match event:
        case StepDown(why):
            return _rest(status, State.PASSIVE, why)
        case Stop(since, why):
            fresh = _rest(status, State.STOPPED, why or "stopped by the operator")
            return fresh if since is None else replace(fresh, since=since)
        case Begin(paired, elsewhere, rest):
            return _begin(replace(status, paired=paired), elsewhere, rest, now + patience.library)
        case Pair(until, paired):
            return _pair(replace(status, paired=paired), until, now + patience.library)
        case Restart():
            return _restart(status, now)
        case Due():
            return _due(status, now, now + patience.library)
        case Launched():
            return _launched(status, now, patience)
        case _ if status.state not in WORKING:
            return status  # a late word of a worker that is being ended
        case QrShown() | QrOver() | Connected() | Lost() if not status.worker:
            return status  # likewise
        case QrShown(code):
            return _qr(status, code, now + patience.code)
        case QrOver():
            return _qr_over(status, now, patience)
        case Paired():
            return _paired(status, now, patience)
        case Connected():
            return _connected(status, now, patience)
        case Lost(why):
            return _lost(status, why, now, chance, patience)
        case Ended(why):
            return _ended(status, why, now, chance, patience)
        case LoggedOut(why):
            return replace(_rest(status, State.LOGGED_OUT, why), paired=False)
        case Replaced():
            return _rest(status, State.REPLACED, "another client logged in with this session")
        case Banned(seconds, why):
            wait = seconds if 0 < seconds < inf else patience.banned
            return _refused(status, State.BANNED, why, wait, now, chance, patience)
        case Outdated(why):
            wait = patience.outdated * (0.5 + chance / 2)
            return _refused(status, State.OUTDATED, why, wait, now, chance, patience)
        case Broken(why):
            return _rest(status, State.FAILED, why)
        case _:
            assert_never(event)


def _rest(status: Status, state: State, reason: str) -> Status:
    return Status(state=state, reason=reason, since=status.since, paired=status.paired)


def _failures(status: Status, now: float, patience: RetryDelays) -> int:
    """Failures in a row before this one: none where the connection had lasted."""
    lasted = status.state is State.CONNECTED and now - status.since >= patience.stable
    return 0 if lasted else status.attempts


def _refused(
    status: Status,
    state: State,
    why: str,
    wait: float,
    now: float,
    chance: float,
    patience: RetryDelays,
) -> Status:
    """WhatsApp names the wait; one that is too short does not make the account spin."""
    failures = _failures(status, now, patience)
    wait = max(wait, patience.delay(failures, chance))
    return replace(_rest(status, state, why), retry_at=now + wait, attempts=failures + 1)


def _begin(status: Status, elsewhere: str, rest: Rest | None, worker_until: float) -> Status:
    if status.worker:
        return status
    if elsewhere:
        return _rest(status, State.ELSEWHERE, elsewhere)
    if rest is not None:
        paired = status.paired and rest.state is not State.LOGGED_OUT
        fresh = replace(_rest(status, rest.state, rest.reason), paired=paired)
        return replace(fresh, since=rest.since, retry_at=rest.retry_at)
    if not status.paired:
        return _rest(status, State.AWAITING_SCAN, "not paired yet")
    fresh = _rest(status, State.CONNECTING, "starting")
    return replace(fresh, worker=True, worker_until=worker_until)


def _pair(status: Status, until: float, worker_until: float) -> Status:
    if status.state is State.PASSIVE:
        raise Conflict("cannot pair: this instance is passive", hint="ask the active instance")
    if status.paired:
        raise Conflict(
            f"the account is paired already ({status.state})",
            hint="wadctl account logout ACCOUNT ends the present pairing first",
        )
    if status.worker and status.pair_until is not None:
        return replace(status, pair_until=until)
    fresh = _rest(status, State.AWAITING_SCAN, "asking WhatsApp for a QR code")
    return replace(fresh, worker=True, worker_until=worker_until, pair_until=until)


def _restart(status: Status, now: float) -> Status:
    if status.state is State.PASSIVE:
        raise Conflict("cannot restart: this instance is passive", hint="ask the active instance")
    if status.state in ENDED:
        raise Conflict(f"the account is {status.state}: nothing runs", hint=status.action)
    return replace(
        status, reason="restarting", worker=False, worker_until=None, retry_at=now, attempts=0
    )


def _launched(status: Status, now: float, patience: RetryDelays) -> Status:
    """The time that it waited for its turn is not the worker's."""
    if not status.worker:
        return status
    until = None if status.worker_until is None else now + patience.library
    return replace(status, launched_at=now, worker_until=until)


def _connected(status: Status, now: float, patience: RetryDelays) -> Status:
    if status.state is State.CONNECTED:
        return status
    return replace(
        status, state=State.CONNECTED, reason="logged in", paired=True, qr="",
        worker_until=None, retry_at=None, pair_until=None,
        settles_at=now + patience.stable if status.attempts else None,
    )  # fmt: skip


def _due(status: Status, now: float, worker_until: float) -> Status:
    if status.pair_until is not None and now >= status.pair_until and not status.paired:
        return _rest(status, State.AWAITING_SCAN, "nobody scanned the code in time")
    if status.settles_at is not None and now >= status.settles_at:
        status = replace(status, attempts=0, settles_at=None)
    if status.worker:
        return _give_up(status, now)
    if status.retry_at is None or now < status.retry_at:
        return status
    if status.state in (State.BANNED, State.OUTDATED):
        status = replace(status, state=State.RECONNECTING, reason="trying again")
    return replace(status, worker=True, worker_until=worker_until, retry_at=None)


def _give_up(status: Status, now: float) -> Status:
    """Replace a worker that got nowhere."""
    if status.worker_until is None or now < status.worker_until:
        return status
    return replace(
        status,
        state=State.RECONNECTING if status.paired else status.state,
        reason="the library got nowhere by itself: taking a fresh worker",
        qr="",
        worker=False,
        worker_until=None,
        retry_at=now,
    )


def _qr(status: Status, code: str, worker_until: float) -> Status:
    if status.pair_until is None:
        # The session on the disk was no session after all: say so, and do not show codes to nobody.
        return _rest(replace(status, paired=False), State.AWAITING_SCAN, "not paired")
    return replace(
        status, state=State.AWAITING_SCAN, reason="scan the QR code", qr=code,
        worker_until=worker_until,
    )  # fmt: skip


def _paired(status: Status, now: float, patience: RetryDelays) -> Status:
    fresh = replace(
        status, state=State.CONNECTING, reason="scanned, logging in", paired=True, qr=""
    )
    if status.worker:
        return replace(fresh, worker_until=now + patience.library)
    # Scanned in the moment in which its worker was told to end: the session is there, the next worker logs in.
    return replace(fresh, retry_at=now, pair_until=None)


def _qr_over(status: Status, now: float, patience: RetryDelays) -> Status:
    """The next list is asked for at once; should WhatsApp give none at all, not without a pause."""
    soonest = now if status.launched_at is None else status.launched_at + patience.lists
    return replace(status, qr="", worker=False, worker_until=None, retry_at=max(now, soonest))


def _lost(status: Status, why: str, now: float, chance: float, patience: RetryDelays) -> Status:
    if not status.paired:
        return replace(status, qr="", reason=why)
    if status.state is not State.CONNECTED:
        # Counted from the first loss: the library tells of some of its tries, and not of others.
        until = status.worker_until if status.worker_until is not None else now + patience.library
        return replace(status, state=State.RECONNECTING, reason=why, worker_until=until)
    lost = replace(status, state=State.RECONNECTING, reason=why)
    if now - status.since >= patience.stable:
        return replace(lost, worker_until=now + patience.library, attempts=0)
    lost = replace(lost, attempts=status.attempts + 1)
    if lost.attempts < patience.losses:
        return replace(lost, worker_until=now + patience.library)
    return replace(
        lost,
        reason=f"{why}; no connection lasted, {lost.attempts} times in a row",
        worker=False,
        worker_until=None,
        retry_at=now + min(patience.stable, patience.delay(status.attempts, chance)),
    )


def _ended(status: Status, why: str, now: float, chance: float, patience: RetryDelays) -> Status:
    if not status.paired and status.pair_until is None:
        reason = "not paired yet" if status.worker else status.reason
        return _rest(status, State.AWAITING_SCAN, reason)
    # An end that was asked for (restart, a used-up list of codes) already has its time and is no failure.
    planned = status.retry_at if not status.worker else None
    state = State.RECONNECTING if status.paired else status.state
    ended = replace(status, state=state, qr="", worker=False, worker_until=None)
    if planned is not None:
        return replace(ended, retry_at=max(now, planned))
    failures = _failures(status, now, patience)
    return replace(
        ended, reason=why, retry_at=now + patience.delay(failures, chance), attempts=failures + 1
    )
