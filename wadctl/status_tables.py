"""Text output for the daemon's status and its accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from wad.api.views.account import AccountView, BackfillView, RemovedReply, WorkerView
from wad.api.views.importing import Imported
from wad.api.views.status import HttpView, LimitsView, StatusView, SyncView
from wadctl.screen import Screen, duration, local, plain, wrapped
from wadctl.shapes import value_text

# --- the daemon -----------------------------------------------------------------------------------


def status(screen: Screen, reply: StatusView) -> str:
    """The status of the daemon, with a table of its accounts and its problems."""
    lease = reply.lease
    mode = screen.state(lease.mode)
    head = [
        f"{reply.service} {reply.version} on {reply.instance}: {lease.mode} ({plain(lease.reason)})",
        f"up {duration(reply.uptime_s)}, pid {reply.pid}, engine {reply.engine}, store {reply.store},"
        f" receipts {reply.receipts or 'unknown'}",
        *_sync(reply.sync),
        *_limits(reply.limits),
        *_confinement(reply.accounts),
        *_http(reply.http),
    ]
    if screen.width:
        head = [line for text in head for line in wrapped(text, screen.width, later="  ")]
    head[0] = head[0].replace(f": {lease.mode} ", f": {mode} ", 1)
    lines = [*head, "", accounts(screen, reply.accounts)]
    if found := _problems(screen, reply):
        lines += ["", *found]
    return "\n".join(lines)


def _problems(screen: Screen, reply: StatusView) -> list[str]:
    """The problems with a hint for each kind.  The table of accounts shows their states, so those are left out."""
    if reply.problems is None:
        return _warnings(screen, reply)
    lines: list[str] = []
    hinted = {"notice"}  # a notice needs no action
    for problem in reply.problems:
        if problem.code.startswith("account_"):
            continue
        text = f"{problem.account}: {problem.text}".removeprefix(": ")
        if problem.degrades:
            lines += screen.paragraph("problem:", "red", text)
        else:
            lines += screen.paragraph("warning:", "yellow", text)
        if problem.hint and problem.code not in hinted:
            hinted.add(problem.code)
            lines += screen.paragraph("what to do:", "dim", problem.hint, "  ")
    return lines


def _warnings(screen: Screen, reply: StatusView) -> list[str]:
    """The warnings of an older daemon, which sends no problems."""
    warnings = list(reply.warnings)
    for account in reply.accounts:
        warnings += [f"{account.id}: {text}" for text in account.warnings]
    return [f"{screen.paint('warning:', 'yellow')} {plain(text)}" for text in warnings]


def _sync(sync: SyncView | None) -> list[str]:
    if sync is None or not sync.waiting:
        return []
    age = "" if sync.oldest_age_s is None else f", the oldest for {duration(sync.oldest_age_s)}"
    return [f"{sync.waiting} documents wait for upload to Firestore{age}"]


def _http(processes: Sequence[HttpView]) -> list[str]:
    """The addresses of the HTTP process.  systemd starts it with the first request."""
    return [
        f"HTTP on {', '.join(one.listening)} (process {one.pid})"
        for one in processes
        if one.listening
    ]


def _limits(limits: LimitsView | None) -> list[str]:
    if limits is None:  # an older daemon does not send it
        return []
    parts = [f"{limits.memory_mb} MB of memory"] if limits.memory_mb is not None else []
    parts += [f"{limits.tasks} tasks"] if limits.tasks is not None else []
    line = f"each worker is limited to {' and '.join(parts)}" if parts else "workers have no limits"
    return [f"{line}: {plain(limits.reason)}" if limits.reason else line]


def _confinement(found: Sequence[AccountView]) -> list[str]:
    """How the workers are confined, with a line for each kind of confinement."""
    counts = Counter(text for account in found if (text := _confined_by(account.worker)))
    if len(counts) == 1:
        return [f"workers are confined by {plain(text)}" for text in counts]
    return [f"{count} workers are confined by {plain(text)}" for text, count in counts.items()]


def _confined_by(worker: WorkerView | None) -> str:
    """A short description of the worker's confinement; empty while it is unknown."""
    return worker.confinement.summary if worker and worker.confinement else ""


# --- accounts -------------------------------------------------------------------------------------

_HEADS: Final = (
    "ACCOUNT",
    "NAME",
    "NUMBER",
    "STATE",
    "FOR",
    "BACKLOG",
    "MEMORY",
    "CPU",
    "REASON",
    "WHAT TO DO",
)
_NARROW_HEADS: Final = ("ACCOUNT", "NAME", "STATE", "FOR", "BACKLOG", "MEMORY")
"""The columns on a terminal of 80 columns; reason and what to do are lines below each account."""


def accounts(screen: Screen, found: Sequence[AccountView]) -> str:
    """The accounts as a table."""
    if not found:
        return "no accounts; wadctl account add NAME --pair adds one"
    rows = [_row(account) for account in found]
    if screen.fits(_HEADS, rows):
        return screen.table(_HEADS, rows)
    heads, *lines = screen.table(
        _NARROW_HEADS,
        [[row[_HEADS.index(head)] for head in _NARROW_HEADS] for row in rows],
        drop=("MEMORY", "BACKLOG", "FOR"),
    ).split("\n")
    text = [heads]
    for account, line in zip(found, lines, strict=True):
        text.append(line)
        if account.state != "connected" and account.reason:
            text += screen.paragraph("reason:", "dim", account.reason, "  ")
        if account.action:
            text += screen.paragraph("what to do:", "dim", account.action, "  ")
    return "\n".join(text)


def _row(account: AccountView) -> list[str]:
    return [
        account.id,
        account.name,
        account.phone or "-",
        account.state,
        duration(account.state_for_s),
        str(account.inbound.backlog),
        *_used(account.worker),
        account.reason,
        account.action or "-",
    ]


def _used(worker: WorkerView | None) -> tuple[str, str]:
    """Memory and processor time of an account's worker."""
    if worker is None or worker.memory_mb is None:
        return "-", "-"
    return f"{worker.memory_mb:g} MB", f"{worker.cpu_s:g} s"


def account(screen: Screen, found: AccountView) -> str:
    """One account in full."""
    inbound, worker = found.inbound, found.worker
    pairs = [
        ("id", found.id),
        ("name", found.name),
        ("number", found.phone or "-"),
        ("JID", found.jid or "-"),
        ("LID", found.lid or "-"),
        ("push name", found.push_name or "-"),
        ("state", f"{found.state} for {duration(found.state_for_s)}"),
        ("reason", found.reason or "-"),
        ("what to do", found.action or "-"),
        ("enabled", value_text(found.enabled)),
        ("paired", value_text(found.paired)),
        ("worker", _worker(worker) if worker else "-"),
        ("receipts", (worker and worker.receipts) or "unknown"),
        ("confined by", _confined_by(worker) or "unknown"),
        ("backlog", f"{inbound.backlog} rows {_age(inbound.oldest_age_s)}".rstrip()),
        ("stored", f"{inbound.recorded} messages, {inbound.duplicates} duplicates"),
        ("lost", value_text(inbound.lost)),
        ("last event", local(found.last_event_ms) or "-"),
        ("added", local(found.created_ms) or "-"),
    ]
    if found.backfill is not None:
        pairs.append(("last backfill", _backfill(found.backfill)))
    if found.retry_in_s is not None:
        pairs.insert(9, ("next try in", duration(found.retry_in_s)))
    pairs += [("warning", text) for text in found.warnings]
    return screen.fields(pairs)


def _worker(worker: WorkerView) -> str:
    used = ""
    if worker.memory_mb is not None:
        used = f", {worker.memory_mb:g} MB, {worker.cpu_s:g} s of processor time"
    return f"pid {value_text(worker.pid)}, {worker.restarts} restarts{used}"


def _backfill(done: BackfillView) -> str:
    """The result of the last backfill."""
    text = f"{local(done.at_ms)}: {done.messages} messages, {done.threads} conversations"
    text += f", {done.errors} errors" if done.errors else ""
    return f"{text}; {done.error}" if done.error else text


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f"(the oldest waits {duration(seconds)})"


def account_line(screen: Screen, found: AccountView) -> str:
    """The account in one line."""
    todo = f" - {found.action}" if found.action else ""
    return f"{found.id}: {screen.state(found.state)} ({plain(found.reason)}){todo}"


def renamed(screen: Screen, found: AccountView) -> str:
    """The new name of an account."""
    return f"{found.id} is now named {plain(found.name)}"


def removed(screen: Screen, reply: RemovedReply) -> str:
    """Where the files of a removed account are, and how to restore it."""
    return (
        f"{reply.account} was removed; its files are in {reply.path}\n"
        f"restore it with: wadctl account restore {reply.account}"
    )


def imported(screen: Screen, reply: Imported) -> str:
    """The items of an imported session."""
    kind = "the existing account" if reply.existing else "a new account"
    would = "would become" if reply.dry_run else "became"
    lines = [
        f"{plain(reply.jid)} {would} {reply.account} ({plain(reply.name)}), {kind}",
        "included: "
        + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in reply.carried.items()),
    ]
    lines += [f"not included: {left.count} {left.kind} ({plain(left.why)})" for left in reply.left]
    lines += [f"{screen.paint('damaged:', 'yellow')} {plain(text)}" for text in reply.damaged]
    if reply.state is None:
        lines.append("nothing was changed; run it without --dry-run to import")
    else:
        lines.append(account_line(screen, reply.state))
    return "\n".join(lines)
