"""Renders replies as text.  Without a renderer for its operation, a reply is rendered by its shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from wadctl import message_tables
from wadctl.screen import Screen, duration, local, plain

Renderer = Callable[[Screen, Any], str]


def render(name: str, screen: Screen, reply: Any) -> str:
    """The reply of the operation `name` as text."""
    return _RENDERERS.get(name, by_shape)(screen, reply)


def by_shape(screen: Screen, reply: Any) -> str:
    """Any reply as text: a list of documents as a table, a document as a list of its fields."""
    if isinstance(reply, list) and reply and all(isinstance(row, dict) for row in reply):
        heads = list(reply[0])
        rows = [[_value(row.get(head)) for head in heads] for row in reply]
        return screen.table([head.upper() for head in heads], rows)
    if isinstance(reply, dict):
        return screen.fields([(name, _value(value)) for name, value in reply.items()])
    return plain(_value(reply)) if reply else ""


def _worker(worker: dict[str, Any]) -> str:
    used = ""
    if worker.get("memory_mb") is not None:  # an older daemon does not send it
        used = f", {worker['memory_mb']:g} MB, {worker['cpu_s']:g} s of processor time"
    return f"pid {_value(worker['pid'])}, {worker['restarts']} restarts{used}"


def _value(value: Any) -> str:
    match value:
        case None | "" | [] | {}:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_value, value))
        case dict():
            return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items())
    return str(value)


# --- the daemon -----------------------------------------------------------------------------------


def _status(screen: Screen, reply: Any) -> str:
    lease = reply["lease"]
    held = (
        "" if lease["valid_for_s"] is None else f", {lease['valid_for_s']:g} s left without renewal"
    )
    mode = screen.state(lease["mode"])
    lines = [
        f"{reply['service']} {reply['version']} on {reply['instance']}: {mode} ({plain(lease['reason'])}{held})",
        f"up {duration(reply['uptime_s'])}, pid {reply['pid']}, engine {reply['engine']}, store {reply['store']},"
        f" receipts {reply['receipts'] or 'unknown'}",
        *_sync(reply["sync"]),
        *_limits(reply.get("limits")),
        *_confinement(reply["accounts"]),
        *_http(reply.get("http") or ()),
        "",
        _accounts(screen, reply["accounts"]),
    ]
    if found := _problems(screen, reply):
        lines += ["", *found]
    return "\n".join(lines)


def _problems(screen: Screen, reply: Any) -> list[str]:
    """The problems with a hint for each kind.  The table of accounts shows their states, so those are left out."""
    if "problems" not in reply:  # an older daemon
        warnings = list(reply["warnings"])
        for account in reply["accounts"]:
            warnings += [f"{account['id']}: {text}" for text in account["warnings"]]
        return [f"{screen.paint('warning:', 'yellow')} {plain(text)}" for text in warnings]
    lines: list[str] = []
    hinted = {"notice"}  # a notice needs no action
    for problem in reply["problems"]:
        if problem["code"].startswith("account_"):
            continue
        text = f"{problem['account']}: {problem['text']}".removeprefix(": ")
        if problem["degrades"]:
            lines += screen.paragraph("problem:", "red", text)
        else:
            lines += screen.paragraph("warning:", "yellow", text)
        if problem["hint"] and problem["code"] not in hinted:
            hinted.add(problem["code"])
            lines += screen.paragraph("what to do:", "dim", problem["hint"], "  ")
    return lines


def _sync(sync: Any) -> list[str]:
    if sync is None or not sync["waiting"]:
        return []
    age = (
        "" if sync["oldest_age_s"] is None else f", the oldest for {duration(sync['oldest_age_s'])}"
    )
    return [f"{sync['waiting']} documents wait for upload to Firestore{age}"]


def _http(processes: Any) -> list[str]:
    """The addresses of the HTTP process.  systemd starts it with the first request."""
    return [
        f"HTTP on {', '.join(one['listening'])} (process {one['pid']})"
        for one in processes
        if one["listening"]
    ]


def _limits(limits: Any) -> list[str]:
    if limits is None:  # an older daemon does not send it
        return []
    memory, tasks, why = limits["memory_mb"], limits["tasks"], limits["reason"]
    parts = [f"{memory} MB of memory"] if memory is not None else []
    parts += [f"{tasks} tasks"] if tasks is not None else []
    line = f"each worker is limited to {' and '.join(parts)}" if parts else "workers have no limits"
    return [f"{line}: {plain(why)}" if why else line]


def _confinement(accounts: Any) -> list[str]:
    """How the workers are confined, with a line for each kind of confinement."""
    found = Counter(text for account in accounts if (text := _confined_by(account["worker"])))
    if len(found) == 1:
        return [f"workers are confined by {plain(text)}" for text in found]
    return [f"{count} workers are confined by {plain(text)}" for text, count in found.items()]


def _confined_by(worker: Any) -> str:
    """A short description of the worker's confinement; empty while it is unknown."""
    found = (worker or {}).get("confinement")  # an older daemon does not send it
    return str(found["summary"]) if found else ""


_ACCOUNT_HEADS: Final = (
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


def _accounts(screen: Screen, accounts: Any) -> str:
    if not accounts:
        return "no accounts; wadctl account add NAME --pair adds one"
    rows = [_account_row(account) for account in accounts]
    if screen.fits(_ACCOUNT_HEADS, rows):
        return screen.table(_ACCOUNT_HEADS, rows)
    heads, *lines = screen.table(
        _NARROW_HEADS,
        [[row[_ACCOUNT_HEADS.index(head)] for head in _NARROW_HEADS] for row in rows],
    ).split("\n")
    text = [heads]
    for account, line in zip(accounts, lines, strict=True):
        text.append(line)
        if account["state"] != "connected" and account["reason"]:
            text += screen.paragraph("reason:", "dim", account["reason"], "  ")
        if account["action"]:
            text += screen.paragraph("what to do:", "dim", account["action"], "  ")
    return "\n".join(text)


def _account_row(account: Any) -> list[str]:
    return [
        account["id"],
        account["name"],
        account["phone"] or "-",
        account["state"],
        duration(account["state_for_s"]),
        str(account["inbound"]["backlog"]),
        *_used(account["worker"]),
        account["reason"],
        account["action"] or "-",
    ]


def _used(worker: Any) -> tuple[str, str]:
    """Memory and processor time of an account's worker."""
    if not worker or worker.get("memory_mb") is None:
        return "-", "-"
    return f"{worker['memory_mb']:g} MB", f"{worker['cpu_s']:g} s"


def _account(screen: Screen, account: Any) -> str:
    inbound, worker = account["inbound"], account["worker"]
    pairs = [
        ("id", account["id"]),
        ("name", account["name"]),
        ("number", account["phone"] or "-"),
        ("JID", account["jid"] or "-"),
        ("LID", account["lid"] or "-"),
        ("push name", account["push_name"] or "-"),
        ("state", f"{account['state']} for {duration(account['state_for_s'])}"),
        ("reason", account["reason"] or "-"),
        ("what to do", account["action"] or "-"),
        ("enabled", _value(account["enabled"])),
        ("paired", _value(account["paired"])),
        ("worker", _worker(worker) if worker else "-"),
        ("receipts", (worker and worker["receipts"]) or "unknown"),
        ("confined by", _confined_by(worker) or "unknown"),
        ("backlog", f"{inbound['backlog']} rows {_age(inbound['oldest_age_s'])}".rstrip()),
        ("stored", f"{inbound['recorded']} messages, {inbound['duplicates']} duplicates"),
        ("lost", _value(inbound["lost"])),
        ("last event", local(account["last_event_ms"]) or "-"),
        ("added", local(account["created_ms"]) or "-"),
    ]
    if done := account.get("backfill"):
        pairs.append(("last backfill", _backfill(done)))
    if account["retry_in_s"] is not None:
        pairs.insert(9, ("next try in", duration(account["retry_in_s"])))
    pairs += [("warning", text) for text in account["warnings"]]
    return screen.fields(pairs)


def _backfill(done: Any) -> str:
    """The result of the last backfill."""
    text = f"{local(done['at_ms'])}: {done['messages']} messages, {done['threads']} conversations"
    text += f", {done['errors']} errors" if done["errors"] else ""
    return f"{text}; {done['error']}" if done["error"] else text


def _age(seconds: float | None) -> str:
    return "" if seconds is None else f"(the oldest waits {duration(seconds)})"


def _account_now(screen: Screen, account: Any) -> str:
    """The account in one line."""
    todo = f" - {account['action']}" if account["action"] else ""
    reason = plain(account["reason"])
    return f"{account['id']}: {screen.state(account['state'])} ({reason}){todo}"


def _removed(screen: Screen, reply: Any) -> str:
    return (
        f"{reply['account']} was removed; its files are in {reply['path']}\n"
        f"restore it with: wadctl account restore {reply['account']}"
    )


def _imported(screen: Screen, reply: Any) -> str:
    kind = "the existing account" if reply["existing"] else "a new account"
    would = "would become" if reply["dry_run"] else "became"
    lines = [
        f"{plain(reply['jid'])} {would} {reply['account']} ({plain(reply['name'])}), {kind}",
        "included: "
        + ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in reply["carried"].items()
        ),
    ]
    lines += [
        f"not included: {left['count']} {left['kind']} ({plain(left['why'])})"
        for left in reply["left"]
    ]
    lines += [f"{screen.paint('damaged:', 'yellow')} {plain(text)}" for text in reply["damaged"]]
    if reply["dry_run"]:
        lines.append("nothing was changed; run it without --dry-run to import")
    else:
        lines.append(_account_now(screen, reply["state"]))
    return "\n".join(lines)


def _event(screen: Screen, event: Any) -> str:
    account = f" {event['account']}" if event["account"] else ""
    kind = screen.paint(f"{event['kind']:8}", "dim")
    return f"{local(event['at_ms'])}  {kind}{account} {plain(event['text'])}"


def _lease(screen: Screen, lease: Any) -> str:
    valid = lease["valid_for_s"]
    pairs = [
        ("instance", lease["instance"]),
        ("mode", lease["mode"]),
        ("reason", plain(lease["reason"])),
        ("valid for", "-" if valid is None else f"{valid:g} s without another renewal"),
        ("holder", lease["holder"] or "-"),
        ("epoch", _value(lease["epoch"])),
        ("acquired", local(lease["acquired_ms"]) or "-"),
        ("acquired because", plain(lease["acquire_reason"] or "-")),
        ("previous holder", lease["previous_holder"] or "-"),
        (
            "timing",
            f"ttl {lease['ttl_s']:g} s, renewed every {lease['renew_every_s']:g} s, margin {lease['margin_s']:g} s",
        ),
        ("stored in", lease["location"]),
    ]
    return screen.fields(pairs)


def _holders(screen: Screen, holders: Any) -> str:
    if not holders:
        return "no instance has held the lease yet"
    heads = ["EPOCH", "HOLDER", "ACQUIRED", "REASON", "ENDED", "END"]
    return screen.table(
        heads,
        [
            [
                str(holder["epoch"]),
                holder["holder"],
                local(holder["began_ms"]),
                holder["reason"] or "-",
                local(holder["ended_ms"]) or "-",
                holder["end_reason"] or "-",
            ]
            for holder in holders
        ],
    )


def _quarantined(screen: Screen, items: Any) -> str:
    if not items:
        return "the quarantine is empty"
    heads = ["ITEM", "SINCE", "KIND", "ACCOUNT", "NAME", "REASON"]
    return screen.table(
        heads,
        [
            [
                item["id"],
                local(item["since_ms"]) or "-",
                item["kind"],
                item["account"] or "-",
                item["name"],
                item["reason"],
            ]
            for item in items
        ],
    )


def _quarantined_item(screen: Screen, reply: Any) -> str:
    item = reply["item"]
    pairs = [
        ("item", item["id"]),
        ("kind", item["kind"]),
        ("account", item["account"] or "-"),
        ("name", plain(item["name"])),
        ("since", local(item["since_ms"]) or "-"),
        ("bytes", str(item["size"] or "-")),
        ("reason", plain(item["reason"])),
    ]
    return "\n".join([screen.fields(pairs), *map(plain, reply["detail"].splitlines())])


def _retried(screen: Screen, reply: Any) -> str:
    return f"{reply['item']['id']} ({plain(reply['item']['name'])}): {plain(reply['result'])}"


def _dropped(screen: Screen, item: Any) -> str:
    return f"{item['id']} ({plain(item['name'])}) was dropped"


_RENDERERS: Final[dict[str, Renderer]] = {
    "status": _status,
    "events": _event,
    "accounts.import_baileys": _imported,
    "lease.show": _lease,
    "lease.history": _holders,
    "lease.release": _lease,
    "lease.take": _lease,
    "accounts.list": _accounts,
    "accounts.show": _account,
    "accounts.add": _account_now,
    "accounts.start": _account_now,
    "accounts.stop": _account_now,
    "accounts.restart": _account_now,
    "accounts.logout": _account_now,
    "accounts.remove": _removed,
    "accounts.restore": _account_now,
    "sessions.import": _account_now,
    "threads.list": message_tables.threads,
    "messages.list": message_tables.messages,
    "messages.show": message_tables.message,
    "messages.send": message_tables.sent,
    "quarantine.list": _quarantined,
    "quarantine.show": _quarantined_item,
    "quarantine.retry": _retried,
    "quarantine.drop": _dropped,
    "outbox.list": message_tables.entries,
    "outbox.retry": message_tables.entry_line,
    "outbox.cancel": message_tables.entry_line,
}
