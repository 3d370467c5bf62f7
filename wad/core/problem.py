"""What is wrong now: one list, which `wadctl status`, `/health`, `/metrics` and the doctor all read.

A problem's `code` says which kind it is; `KINDS` says what anybody may read of that kind, and what to do.  What
`/health` shows is made of a kind's sentence and of numbers alone, so that it cannot name an account, a file or a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from wad.core.connection import State


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    `text` is for operators.  `subject`: which of several (a loop, a file), where one account or the daemon may have the
    same problem more than once.  `figures`: the numbers of the kind's public sentence.  `since_ms`: None while that is
    not known.
    """

    code: str
    text: str
    account: str = ""
    subject: str = ""
    figures: tuple[float, ...] = ()
    since_ms: int | None = None

    @property
    def kind(self) -> ProblemKind:
        """What is known of all problems with this code."""
        return KINDS[self.code]

    @property
    def key(self) -> tuple[str, str, str]:
        """The same for the same problem at another time."""
        return self.code, self.account, self.subject


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """`public`: a sentence that may hold `{count}`, `{accounts}` (are or is), and the figures as `{0}`, `{1}`.

    `degrades`: whether the service is less than it should be; else it is something to know.
    """

    public: str
    hint: str = ""
    degrades: bool = True

    def sentence(self, problems: Sequence[Problem]) -> str:
        """What anybody may read of these, which are all of this kind; the figures are those of the worst."""
        count = len(problems)
        accounts = "1 account is" if count == 1 else f"{count} accounts are"
        worst = max(problems, key=lambda problem: problem.figures)
        figures = [f"{figure:.0f}" for figure in worst.figures]
        return self.public.format(*figures, count=count, accounts=accounts)


_ILL: Final = (
    State.RECONNECTING,
    State.LOGGED_OUT,
    State.REPLACED,
    State.BANNED,
    State.OUTDATED,
    State.ELSEWHERE,
    State.FAILED,
)

KINDS: Final[dict[str, ProblemKind]] = {
    "same_name": ProblemKind(
        "another machine has the same instance.id",
        "give each machine an instance.id of its own, and restart it",
    ),
    "sessions_unwritable": ProblemKind(
        "the accounts' directory cannot be written",
        "look at its owner, its mode and the space left; `wadctl doctor` says which",
    ),
    **{f"account_{state}": ProblemKind(f"{{accounts}} {state}") for state in _ILL},
    "stopped_unsure": ProblemKind(
        "{accounts} stopped, as nothing says whether it should run",
        "its account.json was lost: `wadctl account start` or `wadctl account stop` decides",
    ),
    "unstored": ProblemKind(
        "what {count} account(s) received cannot be stored now",
        "it waits in the account's spool; look at the disk, and at the log for the reason",
    ),
    "slow_store": ProblemKind(
        "a received message has waited {0} s to be stored",
        "look at the load of the machine and of its disk",
    ),
    "held": ProblemKind(
        "what {count} account(s) receive waits, as the disk refuses it",
        "make room on the disk, or look at the rights of the account's directory",
    ),
    "unsent": ProblemKind(
        "{count} account(s) cannot send now", "what is queued waits; look at the log for the reason"
    ),
    "firestore_behind": ProblemKind(
        "{0} documents wait for Firestore, the oldest for {1} s",
        "look at the network and at the credentials: `wadctl doctor`",
    ),
    "firestore_failing": ProblemKind(
        "Firestore cannot be written or read now",
        "look at the network and at the credentials: `wadctl doctor`",
    ),
    "firestore_quota": ProblemKind(
        "{0} documents wait for Firestore; at {1} accounts stop",
        "look at the network and at the credentials: `wadctl doctor`",
    ),
    "firestore_refused": ProblemKind(
        "documents that Firestore refuses: {0}",
        "they lie in the working copy only; `wadctl quarantine list` names each of them",
    ),
    "quarantine": ProblemKind(
        "items that cannot be handled and are set aside: {0}",
        "`wadctl quarantine list` names them; retry or drop each",
    ),
    "store_anew": ProblemKind(
        "the store was empty beside accounts that are older: what it held is missing",
        "restore wad.db from a backup; or delete the note wad.db.began-anew beside it",
    ),
    "set_aside": ProblemKind(
        "copies of damaged files: {0}",
        "restore what is missing from a backup, but never the lease; then move the copies away",
    ),
    "unsaved": ProblemKind(
        "what damaged inboxes of {count} account(s) still hold could not be carried over yet",
        "make room on the disk, or look at the rights of the account's directory; it is tried again",
    ),
    "copies_unknown": ProblemKind(
        "the directories of {count} account(s) cannot be listed now",
        "look at the file descriptors that are used, and at the owner and mode of the account's directory",
    ),
    "unusable_files": ProblemKind(
        "files of the state that cannot be read or written: {0}",
        "give them to the daemon's user (of the package: wad): chown -R USER: on the state directory",
    ),
    "foreign_files": ProblemKind(
        "files in the state directory that belong to another user: {0}",
        "give them to the daemon's user (of the package: wad): chown -R USER: on the state directory",
    ),
    "lease_failing": ProblemKind(
        "the lease cannot be read or renewed",
        "no other machine can be excluded meanwhile: look at the file or at Firestore, where the lease lies",
    ),
    "no_room": ProblemKind(
        "too little room is left for what is received: accounts wait",
        "make room on the disk, or lower state.min_free_mb",
    ),
    "disk_slow": ProblemKind(
        "the disk has not taken a renewal of the lease for {0} s",
        "the lease is held all the same; look at what keeps the disk busy (iostat, iotop), and at its health",
    ),
    "log_grown": ProblemKind(
        "the write-ahead log of a database has grown to {0} MB",
        "end the program that keeps the database open, or its transaction; the log then shrinks by itself",
    ),
    "output_flood": ProblemKind(
        "the workers of {count} account(s) write more than is read of them",
        "what was dropped is not in the log; restart the account, and report it",
    ),
    "files_short": ProblemKind(
        "{0} of {1} file descriptors are used",
        "raise LimitNOFILE= of the unit (systemctl edit wad), or the limit of the shell (ulimit -n)",
    ),
    "clock_jumped": ProblemKind(
        "the clock was set by {0} s", "times of what arrived before are as they were; look at NTP"
    ),
    "event_loop_slow": ProblemKind(
        "the daemon did not turn for {0} s",
        "look at the load of the machine; `wadctl status` says what each worker takes",
    ),
    "loop_failing": ProblemKind(
        "tasks of the daemon that fail and are tried again: {count}",
        "look at the log for the reason; what is no trouble of the surroundings, please report",
    ),
    "loop_stuck": ProblemKind(
        "tasks of the daemon that get nowhere: {count}",
        "look at the log for the reason; what is no trouble of the surroundings, please report",
    ),
    "loop_hung": ProblemKind(
        "tasks of the daemon that do not turn: {count}",
        "systemd restarts wad when this lasts; please report it",
    ),
    "internal_error": ProblemKind(
        "internal errors in the last five minutes: {0}",
        "the log has the traceback of each; please report it",
    ),
    "receipts_early": ProblemKind(
        "{count} account(s) acknowledge what arrives before it is stored",
        "install a build of the library that is known (docs/upstream.md)",
        degrades=False,
    ),
    "confined_in_part": ProblemKind(
        "the kernel or a container does not confine the workers of {count} account(s) as it should",
        "a kernel with Landlock (lsm= in its command line), and containers that allow it: docs/security.md",
        degrades=False,
    ),
    "notice": ProblemKind(
        "notices for the operator: {count}", "`wadctl status` shows them", degrades=False
    ),
}
"""Every kind of problem, in the order in which they are shown."""

STATES: Final = frozenset(f"account_{state}" for state in _ILL)
"""The kinds that say in which state an account is."""

_ORDER: Final = {code: number for number, code in enumerate(KINDS)}


def code_of(state: State) -> str | None:
    """The kind of problem that an account in this state has; None where it has none."""
    return f"account_{state}" if state in _ILL else None


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """As they are shown: by kind, then by account."""
    return sorted(problems, key=lambda problem: (_ORDER[problem.code], *problem.key))


def by_code(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """The problems of each kind, in the order of the kinds."""
    found: dict[str, list[Problem]] = {}
    for problem in in_order(problems):
        found.setdefault(problem.code, []).append(problem)
    return found


def degraded(problems: Iterable[Problem]) -> bool:
    """Whether the service is less than it should be."""
    return any(problem.kind.degrades for problem in problems)


class Noticed:
    """Since when each problem has been there, for those that cannot tell themselves."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str, str], int] = {}

    def look(self, problems: Iterable[Problem], now_ms: int) -> None:
        """These are there now; all others are over."""
        self._since = {problem.key: self._since.get(problem.key, now_ms) for problem in problems}

    def dated(self, problem: Problem) -> Problem:
        """The problem, and since when it has been there, as far as that is known."""
        if problem.since_ms is not None:
            return problem
        return msgspec.structs.replace(problem, since_ms=self._since.get(problem.key))
