"""The present problems of the service: one list for `wadctl status`, `/health`, `/metrics` and the doctor.

A problem's `code` names its kind; `KINDS` has the public sentence of each kind, and what to do.  `/health` is public:
it shows the sentence of the kind and numbers only, never an account, a file or a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from wad.core.connection import State


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem.

    `text` is for operators.  `subject`: the loop or the file that has the problem, where one account or the daemon may
    have the same problem more than once.  `figures`: the numbers of the kind's public sentence.  `since_ms`: when it
    began, None if unknown.
    """

    code: str
    text: str
    account: str = ""
    subject: str = ""
    figures: tuple[float, ...] = ()
    since_ms: int | None = None

    @property
    def kind(self) -> ProblemKind:
        """The kind that this code names."""
        return KINDS[self.code]

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies a problem over time."""
        return self.code, self.account, self.subject


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: its public sentence, a hint, and whether it degrades the service.

    `public` may contain `{count}`, `{accounts}` (with is or are), and the figures as `{0}`, `{1}`.  A kind that does
    not degrade the service is for information only.
    """

    public: str
    hint: str = ""
    degrades: bool = True

    def sentence(self, problems: Sequence[Problem]) -> str:
        """The public sentence for these problems, all of this kind; the figures are those of the worst one."""
        count = len(problems)
        accounts = "1 account is" if count == 1 else f"{count} accounts are"
        worst = max(problems, key=lambda problem: problem.figures)
        figures = [f"{figure:.0f}" for figure in worst.figures]
        return self.public.format(*figures, count=count, accounts=accounts)


_PROBLEM_STATES: Final = (
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
        "another machine uses the same instance.id",
        "set a different instance.id on each machine, and restart it",
    ),
    "sessions_unwritable": ProblemKind(
        "the accounts' directory is not writable",
        "check its owner, its mode and the free space; `wadctl doctor` says which of them is wrong",
    ),
    **{f"account_{state}": ProblemKind(f"{{accounts}} {state}") for state in _PROBLEM_STATES},
    "stopped_unsure": ProblemKind(
        "{accounts} stopped because the card was lost",
        "decide whether it runs: `wadctl account start ACCOUNT` or `wadctl account stop ACCOUNT`",
    ),
    "unstored": ProblemKind(
        "received messages of {count} account(s) cannot be stored now",
        "they wait in the account's spool; check the disk, and read the log for the reason",
    ),
    "slow_store": ProblemKind(
        "a received message has waited {0} s to be stored",
        "check the load of the machine and of its disk",
    ),
    "held": ProblemKind(
        "received messages of {count} account(s) wait because the disk refuses them",
        "free space on the disk, or check the permissions of the account's directory",
    ),
    "unsent": ProblemKind(
        "{count} account(s) cannot send now", "queued messages wait; read the log for the reason"
    ),
    "firestore_behind": ProblemKind(
        "{0} documents wait for their upload to Firestore, the oldest for {1} s",
        "check the network and the credentials: `wadctl doctor`",
    ),
    "firestore_failing": ProblemKind(
        "Firestore cannot be written or read now",
        "check the network and the credentials: `wadctl doctor`",
    ),
    "firestore_quota": ProblemKind(
        "{0} documents wait for their upload to Firestore; the accounts stop at {1}",
        "check the network and the credentials: `wadctl doctor`",
    ),
    "firestore_refused": ProblemKind(
        "documents that Firestore refuses: {0}",
        "they exist in the local working copy only; `wadctl quarantine list` lists them",
    ),
    "quarantine": ProblemKind(
        "items in quarantine: {0}",
        "`wadctl quarantine list` lists them; retry or drop each",
    ),
    "inbox_gap": ProblemKind(
        "received messages of {count} account(s) may be missing: another file has replaced the spool",
        "look for missing messages on the phone; `wadctl quarantine list` shows since when; drop the item",
    ),
    "card_unwritten": ProblemKind(
        "the cards of {count} account(s) cannot be written",
        "free space on the disk, or check the permissions of `sessions/.cards`; wad retries",
    ),
    "store_replaced": ProblemKind(
        "the store's file was removed or replaced while wad runs",
        "what is stored now is lost at the next start: stop wad, restore a backup of wad.db, start wad",
    ),
    "store_anew": ProblemKind(
        "the store was empty although older accounts exist: its earlier contents are missing",
        "restore wad.db from a backup, or accept the loss: delete the file wad.db.began-anew beside it",
    ),
    "set_aside": ProblemKind(
        "copies of damaged files: {0}",
        "restore missing data from a backup, but never the lease; then move the copies away",
    ),
    "unsaved": ProblemKind(
        "messages in damaged spools of {count} account(s) are not recovered yet",
        "free space on the disk, or check the permissions of the account's directory; wad retries",
    ),
    "copies_unknown": ProblemKind(
        "the directories of {count} account(s) cannot be listed now",
        "check the number of open file descriptors, and the owner and mode of the account's directory",
    ),
    "unusable_files": ProblemKind(
        "state files that cannot be read or written: {0}",
        "make the daemon's user (of the package: wad) their owner: chown -R USER: on the state directory",
    ),
    "foreign_files": ProblemKind(
        "files in the state directory that belong to another user: {0}",
        "make the daemon's user (of the package: wad) their owner: chown -R USER: on the state directory",
    ),
    "lease_failing": ProblemKind(
        "the lease cannot be read or renewed",
        "until then wad cannot exclude another machine: check the file or Firestore, where the lease is stored",
    ),
    "no_room": ProblemKind(
        "too little disk space is free for received messages: accounts wait",
        "free space on the disk, or lower state.min_free_mb",
    ),
    "space_low": ProblemKind(
        "the disk is nearly full: accounts will have to wait",
        "free space on the disk before accounts disconnect, or lower state.min_free_mb",
        degrades=False,
    ),
    "disk_slow": ProblemKind(
        "the disk has not stored a renewal of the lease for {0} s",
        "the lease is still held; check what keeps the disk busy (iostat, iotop), and the health of the disk",
    ),
    "log_grown": ProblemKind(
        "the write-ahead log of a database has grown to {0} MB",
        "end the program that keeps the database open, or its transaction; the log then shrinks by itself",
    ),
    "output_flood": ProblemKind(
        "the workers of {count} account(s) write more output than the daemon reads",
        "the dropped lines are not in the log; restart the account, and report the problem",
    ),
    "files_short": ProblemKind(
        "{0} of {1} file descriptors are used",
        "raise LimitNOFILE= of the unit (systemctl edit wad), or the shell's limit (ulimit -n)",
    ),
    "clock_jumped": ProblemKind(
        "the clock was set by {0} s",
        "earlier messages keep the times that were recorded; check NTP",
    ),
    "event_loop_slow": ProblemKind(
        "the daemon's event loop did not run for {0} s",
        "check the load of the machine; `wadctl status` shows the resources of each worker",
    ),
    "loop_failing": ProblemKind(
        "background tasks of the daemon that fail and are retried: {count}",
        "read the log for the reason; please report it if the cause is not the machine or the network",
    ),
    "loop_stuck": ProblemKind(
        "background tasks of the daemon that make no progress: {count}",
        "read the log for the reason; please report it if the cause is not the machine or the network",
    ),
    "loop_hung": ProblemKind(
        "background tasks of the daemon that hang: {count}",
        "systemd restarts wad if this lasts; please report it",
    ),
    "internal_error": ProblemKind(
        "internal errors in the last five minutes: {0}",
        "the log has the traceback of each; please report it",
    ),
    "receipts_early": ProblemKind(
        "{count} account(s) acknowledge messages before they are stored",
        "install a supported build of the library (docs/upstream.md)",
        degrades=False,
    ),
    "confined_in_part": ProblemKind(
        "the kernel or the container confines the workers of {count} account(s) only in part",
        "use a kernel with Landlock (lsm= on its command line), and a container that allows it: docs/security.md",
        degrades=False,
    ),
    # Anybody who writes can bring this about, and nothing is lost: no reason to call the service ill.
    "untranslated": ProblemKind(
        "received items that could not be translated and are kept raw: {0}",
        "`wadctl quarantine list` lists them; retry them after an upgrade, or drop them",
        degrades=False,
    ),
    "notice": ProblemKind(
        "notices for the operator: {count}", "`wadctl status` shows them", degrades=False
    ),
}
"""Every kind of problem, in display order."""

STATES: Final = frozenset(f"account_{state}" for state in _PROBLEM_STATES)
"""The kinds that report the state of an account."""

_ORDER: Final = {code: number for number, code in enumerate(KINDS)}


def code_of(state: State) -> str | None:
    """The kind of problem that an account in this state has; None if the state is not a problem."""
    return f"account_{state}" if state in _PROBLEM_STATES else None


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """The problems in display order: by kind, then by account."""
    return sorted(problems, key=lambda problem: (_ORDER[problem.code], *problem.key))


def by_code(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """The problems of each kind, in the order of the kinds."""
    found: dict[str, list[Problem]] = {}
    for problem in in_order(problems):
        found.setdefault(problem.code, []).append(problem)
    return found


def degraded(problems: Iterable[Problem]) -> bool:
    """Whether any of these problems degrades the service."""
    return any(problem.kind.degrades for problem in problems)


class ProblemTimes:
    """When each problem began, for problems without a time of their own."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str, str], int] = {}

    def update(self, problems: Iterable[Problem], now_ms: int) -> None:
        """Note the present problems; forget all others."""
        self._since = {problem.key: self._since.get(problem.key, now_ms) for problem in problems}

    def dated(self, problem: Problem) -> Problem:
        """The problem with the time at which it began, if that is known."""
        if problem.since_ms is not None:
            return problem
        return msgspec.structs.replace(problem, since_ms=self._since.get(problem.key))
