"""The state machine of one account's connection to WhatsApp.  Pure: it decides the state and what to do next.

Rule 1: this file alone decides whether a worker should run, and what the operator sees of the connection.
Rule 2: an outage of any length is `reconnecting`; only WhatsApp (logged out) or an operator ends a session, and nothing
in here removes one.
Rule 3: a QR code is shown only in a pairing window that an operator has opened, and never because of an outage.
Rule 4: a worker that makes no progress is replaced.  The library may dial, wait or show an old code for ever without
any event, and its own pauses between attempts grow without bound.
Rule 5: a login counts as a success only after it has lasted.  The number of failures in a row is reset after a stable
minute of connection, however often an account logs in before that; the first attempt after a reset starts at once.

    passive        this instance does not hold the lease; no worker
    connecting     a worker runs but has not connected yet
    awaiting_scan  not paired; a QR code is shown while the pairing window is open
    connected      logged in
    reconnecting   was connected, or could not connect, and keeps trying
    logged_out     the phone or the operator removed this device; the session is invalid
    replaced       another client took over this session; competing for it would log both out
    banned         WhatsApp refuses the account until a time
    outdated       WhatsApp refuses the library's version
    stopped        the operator stopped it
    elsewhere      its session is stored on another machine, or is being moved there
    failed         a local fault that a retry does not fix

The library's behaviour behind the transitions: docs/internals/library.md#connecting-and-stopping and
docs/internals/whatsapp-protocol.md#refusals-and-stream-errors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf
from typing import Final, assert_never

from wad.core.errors import Conflict


class State(StrEnum):
    """The state of an account's connection; the module's docstring describes each."""

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


# --- events of an account ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LastingState:
    """A state that lasts from an earlier process or leadership term.  Times are monotonic seconds, `since` in the past.

    `retry_at`: when the account tries again by itself; None: not at all.
    """

    state: State
    reason: str
    since: float
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Begin:
    """The account may start: this instance holds the lease, or the operator starts it.

    `paired`: a session is stored on this disk.  `elsewhere`: why the account must not run here; empty if it may.
    `lasting`: the state that lasts from before this process, or from before the lease was lost (`core.end_state`); None
    if the account may connect.
    """

    paired: bool
    elsewhere: str = ""
    lasting: LastingState | None = None


NO_LEASE: Final = "this instance does not hold the lease"


@dataclass(frozen=True, slots=True)
class StepDown:
    """No worker may act: the lease is lost, or the account was removed."""

    why: str = NO_LEASE


@dataclass(frozen=True, slots=True)
class Stop:
    """The operator stops the account, or stopped it at `since` (monotonic seconds; None: now).

    `why`: why the account is stopped without an operator's command; empty if an operator stopped it.
    """

    since: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """The operator requests QR codes until `until` (monotonic seconds).  `paired`: a session is on this disk.

    `phone`: the number of a phone on which a code of eight characters is to be entered; empty: QR codes only.
    """

    until: float
    paired: bool
    phone: str = ""


@dataclass(frozen=True, slots=True)
class Launched:
    """The worker process was started, possibly after a wait in the start queue."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The operator requests a new worker."""


@dataclass(frozen=True, slots=True)
class QrShown:
    """WhatsApp sent a QR code, which replaces the previous one."""

    code: str


@dataclass(frozen=True, slots=True)
class PairingCode:
    """WhatsApp gave a code of eight characters for the phone with this number."""

    phone: str
    code: str


@dataclass(frozen=True, slots=True)
class PairingCodeRefused:
    """There is no code for the phone with this number; QR codes are still shown."""

    phone: str
    why: str


@dataclass(frozen=True, slots=True)
class QrOver:
    """WhatsApp sends no more QR codes on this connection."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The phone scanned the code."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Logged in."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection was lost; the library tries again by itself."""

    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker process has ended; `why` is one sentence."""

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
    """WhatsApp refuses the account for `seconds` (0: unknown)."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Outdated:
    """WhatsApp refuses the library's version."""

    why: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A fault on this machine, for example a damaged session file that was set aside."""

    why: str


@dataclass(frozen=True, slots=True)
class Due:
    """A timer has expired: `retry_at`, `worker_until`, `settles_at` or the end of the pairing window."""


Input = (
    Begin | StepDown | Stop | Pair | Launched | Restart | QrShown | PairingCode | PairingCodeRefused | QrOver | Paired
    | Connected | Lost | Ended | LoggedOut | Replaced | Banned | Outdated | Broken | Due
)  # fmt: skip

# --- the status, and the rules ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status:
    """The status of an account's connection.  Times are monotonic seconds.

    `worker`: a worker process should run now.  `launched_at`: when it was started, None while it waits in the start
    queue.  `worker_until`: when it is replaced, unless it makes progress before.  `retry_at`: when to start the next
    one.  `attempts`: failures in a row.  `settles_at`: when they are reset, if the connection lasts until then.
    `pairing_phone`: the number for which a code of eight characters is requested; `pairing_code`: that code, which is
    valid at most as long as the same connection shows QR codes.
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
    pairing_phone: str = ""
    pairing_code: str = ""

    @property
    def needs_pairing_code(self) -> bool:
        """Whether the worker should request a code of eight characters: it can once it shows a QR code."""
        return bool(self.worker and self.pairing_phone and self.qr and not self.pairing_code)

    @property
    def action(self) -> str:
        """What the operator can do now; empty if there is nothing to do."""
        if self.state is State.AWAITING_SCAN and not self.qr:
            return "wadctl account pair ACCOUNT" if self.pair_until is None else "wait for the code"
        if self.state is State.AWAITING_SCAN and self.pairing_code:
            return _BY_CODE
        return _ACTIONS.get(self.state, "")


_BY_CODE: Final = (
    "enter the code: WhatsApp on the phone, Linked devices, Link a device, Link with phone number"
)
_ACTIONS: Final = {
    State.AWAITING_SCAN: "scan the code: WhatsApp on the phone, Linked devices, Link a device",
    State.LOGGED_OUT: "wadctl account pair ACCOUNT",
    State.REPLACED: "stop the other client, then wadctl account start ACCOUNT",
    State.BANNED: "wait; open WhatsApp on the phone to see why",
    State.OUTDATED: "upgrade wad (apt install --only-upgrade wad)",
    State.STOPPED: "wadctl account start ACCOUNT",
    State.ELSEWHERE: "wadctl session export ACCOUNT there, import it here; or make that machine active",
    State.FAILED: "see the reason; wadctl account start ACCOUNT tries again",
}

ENDED: Final = frozenset(
    {State.LOGGED_OUT, State.REPLACED, State.STOPPED, State.ELSEWHERE, State.FAILED}
)
"""States that only an operator ends (`replaced` and `elsewhere` are checked again when the lease is acquired)."""

WORKING: Final = frozenset(
    {State.CONNECTING, State.AWAITING_SCAN, State.CONNECTED, State.RECONNECTING}
)
"""States in which a worker may run."""


@dataclass(frozen=True, slots=True)
class RetryDelays:
    """The delays and timeouts of a connection, in seconds.

    `base`: the delay between attempts, doubled up to `cap`; `outdated` is long, since only an upgrade helps.
    `library`: how long a worker may take to connect, or to reconnect, by itself.  `code`: the next QR code must follow
    within it (the library changes the code after 60 s at most).  `lists`: the least time between two requests for a
    list of codes.

    A connection that lasted for `stable` is a success.  After a shorter one the library reconnects by itself, at once;
    after `losses` (a number) of these in a row the worker is ended, and the next one waits as after a failure, `stable`
    at most.
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
        """The capped exponential delay before attempt number `attempts`; `chance` in [0, 1) is the jitter."""
        ceiling = min(self.cap, self.base * 2.0 ** min(attempts, 30))
        return ceiling / 2 + ceiling / 2 * chance


def step(status: Status, event: Input, now: float, chance: float, delays: RetryDelays) -> Status:
    """The status of the account after `event` at `now` (monotonic seconds); `chance` in [0, 1).

    Total: an event that does not apply to a state changes nothing.  Raises Conflict for an operator's command that the
    state does not allow.
    """
    after = _step(status, event, now, chance, delays)
    if after.settles_at is not None and after.state is not State.CONNECTED:
        after = replace(after, settles_at=None)
    if after.pairing_phone and after.pair_until is None:
        after = replace(after, pairing_phone="")
    if after.pairing_code and not (after.worker and after.qr and after.pairing_phone):
        after = replace(after, pairing_code="")
    if after.launched_at is not None and not after.worker:
        after = replace(after, launched_at=None)
    if after.state is status.state or _has_own_since(event, after.state):
        return after
    return replace(after, since=now)


def _has_own_since(event: Input, state: State) -> bool:
    """Whether the event carries the beginning of the state."""
    match event:
        case Begin(lasting=LastingState(was)):
            return was is state
        case Stop(since):
            return since is not None
    return False


def _step(status: Status, event: Input, now: float, chance: float, delays: RetryDelays) -> Status:
    match event:
        case StepDown(why):
            return _without_worker(status, State.PASSIVE, why)
        case Stop(since, why):
            fresh = _without_worker(status, State.STOPPED, why or "stopped by the operator")
            return fresh if since is None else replace(fresh, since=since)
        case Begin(paired, elsewhere, lasting):
            return _begin(replace(status, paired=paired), elsewhere, lasting, now + delays.library)
        case Pair(until, paired, phone):
            return _pair(replace(status, paired=paired), until, now + delays.library, phone)
        case Restart():
            return _restart(status, now)
        case Due():
            return _due(status, now, now + delays.library)
        case Launched():
            return _launched(status, now, delays)
        case _ if status.state not in WORKING:
            return status  # a late event of a worker that is being ended
        case QrShown() | QrOver() | Connected() | Lost() if not status.worker:
            return status  # likewise
        case QrShown(code):
            return _qr(status, code, now + delays.code)
        case PairingCode(phone) | PairingCodeRefused(phone) if phone != status.pairing_phone:
            return status
        case PairingCode(_, code):
            return replace(status, pairing_code=code, reason=_ENTER) if status.qr else status
        case PairingCodeRefused(_, why):
            return replace(status, pairing_phone="", reason=f"WhatsApp gives no code: {why}")
        case QrOver():
            return _qr_over(status, now, delays)
        case Paired():
            return _paired(status, now, delays)
        case Connected():
            return _connected(status, now, delays)
        case Lost(why):
            return _lost(status, why, now, chance, delays)
        case Ended(why):
            return _ended(status, why, now, chance, delays)
        case LoggedOut(why):
            return replace(_without_worker(status, State.LOGGED_OUT, why), paired=False)
        case Replaced():
            return _without_worker(
                status, State.REPLACED, "another client logged in with this session"
            )
        case Banned(seconds, why):
            wait = seconds if 0 < seconds < inf else delays.banned
            return _refused(status, State.BANNED, why, wait, now, chance, delays)
        case Outdated(why):
            wait = delays.outdated * (0.5 + chance / 2)
            return _refused(status, State.OUTDATED, why, wait, now, chance, delays)
        case Broken(why):
            return _without_worker(status, State.FAILED, why)
        case _:
            assert_never(event)


def _without_worker(status: Status, state: State, reason: str) -> Status:
    return Status(state=state, reason=reason, since=status.since, paired=status.paired)


def _failures(status: Status, now: float, delays: RetryDelays) -> int:
    """Failures in a row before this one: none if the connection had lasted."""
    lasted = status.state is State.CONNECTED and now - status.since >= delays.stable
    return 0 if lasted else status.attempts


def _refused(
    status: Status,
    state: State,
    why: str,
    wait: float,
    now: float,
    chance: float,
    delays: RetryDelays,
) -> Status:
    """WhatsApp gives the wait; a wait that is too short is raised, so that the account does not spin."""
    failures = _failures(status, now, delays)
    wait = max(wait, delays.delay(failures, chance))
    return replace(_without_worker(status, state, why), retry_at=now + wait, attempts=failures + 1)


def _begin(
    status: Status, elsewhere: str, lasting: LastingState | None, worker_until: float
) -> Status:
    if status.worker:
        return status
    if elsewhere:
        return _without_worker(status, State.ELSEWHERE, elsewhere)
    if lasting is not None:
        paired = status.paired and lasting.state is not State.LOGGED_OUT
        fresh = replace(_without_worker(status, lasting.state, lasting.reason), paired=paired)
        return replace(fresh, since=lasting.since, retry_at=lasting.retry_at)
    if not status.paired:
        return _without_worker(status, State.AWAITING_SCAN, "not paired yet")
    fresh = _without_worker(status, State.CONNECTING, "starting")
    return replace(fresh, worker=True, worker_until=worker_until)


_ENTER: Final = "enter the code on the phone"


def _pair(status: Status, until: float, worker_until: float, phone: str) -> Status:
    if status.state is State.PASSIVE:
        raise Conflict("cannot pair: this instance is passive", hint="pair on the active instance")
    if status.paired:
        raise Conflict(
            f"the account is already paired ({status.state})",
            hint="end the present pairing first: wadctl account logout ACCOUNT",
        )
    if status.worker and status.pair_until is not None:
        if phone == status.pairing_phone:
            return replace(status, pair_until=until)
        reason = "requesting a code from WhatsApp" if phone else status.reason
        if not phone and status.qr:
            reason = "scan the QR code"
        return replace(
            status, pair_until=until, pairing_phone=phone, pairing_code="", reason=reason
        )
    what = "code" if phone else "QR code"
    fresh = _without_worker(status, State.AWAITING_SCAN, f"requesting a {what} from WhatsApp")
    return replace(
        fresh, worker=True, worker_until=worker_until, pair_until=until, pairing_phone=phone
    )


def _restart(status: Status, now: float) -> Status:
    if status.state is State.PASSIVE:
        raise Conflict(
            "cannot restart: this instance is passive", hint="restart on the active instance"
        )
    if status.state in ENDED:
        raise Conflict(f"cannot restart: the account is {status.state}", hint=status.action)
    return replace(
        status, reason="restarting", worker=False, worker_until=None, retry_at=now, attempts=0
    )


def _launched(status: Status, now: float, delays: RetryDelays) -> Status:
    """The worker's timeout begins now: the wait in the start queue does not count."""
    if not status.worker:
        return status
    until = None if status.worker_until is None else now + delays.library
    return replace(status, launched_at=now, worker_until=until)


def _connected(status: Status, now: float, delays: RetryDelays) -> Status:
    if status.state is State.CONNECTED:
        return status
    return replace(
        status, state=State.CONNECTED, reason="logged in", paired=True, qr="",
        worker_until=None, retry_at=None, pair_until=None,
        settles_at=now + delays.stable if status.attempts else None,
    )  # fmt: skip


def _due(status: Status, now: float, worker_until: float) -> Status:
    if status.pair_until is not None and now >= status.pair_until and not status.paired:
        return _without_worker(status, State.AWAITING_SCAN, "the code was not scanned in time")
    if status.settles_at is not None and now >= status.settles_at:
        status = replace(status, attempts=0, settles_at=None)
    if status.worker:
        return _replace_stuck(status, now)
    if status.retry_at is None or now < status.retry_at:
        return status
    if status.state in (State.BANNED, State.OUTDATED):
        status = replace(status, state=State.RECONNECTING, reason="trying again")
    return replace(status, worker=True, worker_until=worker_until, retry_at=None)


def _replace_stuck(status: Status, now: float) -> Status:
    """Replace a worker that has made no progress in time."""
    if status.worker_until is None or now < status.worker_until:
        return status
    return replace(
        status,
        state=State.RECONNECTING if status.paired else status.state,
        reason="the library made no progress: starting a new worker",
        qr="",
        worker=False,
        worker_until=None,
        retry_at=now,
    )


def _qr(status: Status, code: str, worker_until: float) -> Status:
    if status.pair_until is None:
        # The session on the disk was not valid: report that, and show no codes without a pairing window.
        return _without_worker(replace(status, paired=False), State.AWAITING_SCAN, "not paired")
    reason = "scan the QR code"
    if status.pairing_phone:
        reason = _ENTER if status.pairing_code else "requesting a code from WhatsApp"
    return replace(
        status, state=State.AWAITING_SCAN, reason=reason, qr=code, worker_until=worker_until
    )


def _paired(status: Status, now: float, delays: RetryDelays) -> Status:
    fresh = replace(
        status, state=State.CONNECTING, reason="scanned, logging in", paired=True, qr=""
    )
    if status.worker:
        return replace(fresh, worker_until=now + delays.library)
    # Scanned at the moment when its worker was stopped: the session exists, and the next worker logs in.
    return replace(fresh, retry_at=now, pair_until=None)


def _qr_over(status: Status, now: float, delays: RetryDelays) -> Status:
    """Request the next list at once, but with a pause in case WhatsApp sends none at all."""
    soonest = now if status.launched_at is None else status.launched_at + delays.lists
    return replace(status, qr="", worker=False, worker_until=None, retry_at=max(now, soonest))


def _lost(status: Status, why: str, now: float, chance: float, delays: RetryDelays) -> Status:
    if not status.paired:
        return replace(status, qr="", reason=why)
    if status.state is not State.CONNECTED:
        # Counted from the first loss: the library reports some of its attempts only.
        until = status.worker_until if status.worker_until is not None else now + delays.library
        return replace(status, state=State.RECONNECTING, reason=why, worker_until=until)
    lost = replace(status, state=State.RECONNECTING, reason=why)
    if now - status.since >= delays.stable:
        return replace(lost, worker_until=now + delays.library, attempts=0)
    lost = replace(lost, attempts=status.attempts + 1)
    if lost.attempts < delays.losses:
        return replace(lost, worker_until=now + delays.library)
    return replace(
        lost,
        reason=f"{why}; no connection lasted, {lost.attempts} times in a row",
        worker=False,
        worker_until=None,
        retry_at=now + min(delays.stable, delays.delay(status.attempts, chance)),
    )


def _ended(status: Status, why: str, now: float, chance: float, delays: RetryDelays) -> Status:
    if not status.paired and status.pair_until is None:
        reason = "not paired yet" if status.worker else status.reason
        return _without_worker(status, State.AWAITING_SCAN, reason)
    # A planned end (restart, a used-up list of codes) already has its time and is not a failure.
    planned = status.retry_at if not status.worker else None
    state = State.RECONNECTING if status.paired else status.state
    ended = replace(status, state=state, qr="", worker=False, worker_until=None)
    if planned is not None:
        return replace(ended, retry_at=max(now, planned))
    failures = _failures(status, now, delays)
    return replace(
        ended, reason=why, retry_at=now + delays.delay(failures, chance), attempts=failures + 1
    )
