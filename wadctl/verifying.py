"""`wadctl verify`: audit, send, restart twice, audit again; 0 only when all of it was seen to be right.

Exit codes: 0 verified; 2 something failed; 3 duplicates increased; 4 what was sent is not in the store; 10 nothing to
judge by; 64 usage.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from wad.core.errors import WadError
from wadctl.auditing import AuditCommand, rows_of
from wadctl.commands import config_option, json_option
from wadctl.doctoring import ask, restart_and_compare
from wadctl.session import Session, session

if TYPE_CHECKING:
    from wad.audit.verify import Audited, Sent, Verification

FAILED: Final = 2
_FOR_SENDING: Final = 60.0  # seconds
_NEWEST: Final = 1000  # messages of a thread among which the one that was sent must be

_HELP: Final = """\
Verify that restarts lose and double nothing.

Audits the store, sends a message if --to names somebody, restarts the daemon (twice by default) and waits each time
until every account that was connected is so again, and audits once more.

Exit code: 0 verified, and nothing else is 0; 2 something failed; 3 duplicates have increased; 4 the message that was
sent is not in the store; 10 there was nothing in the window to judge by; 64 usage."""


def verify_command() -> AuditCommand:
    """The command."""
    return AuditCommand(
        "verify",
        params=[
            click.Option(["--to"], default="", metavar="NUMBER", help="Send a short message to this number or JID."),
            click.Option(["--account"], default="", help="Who sends it [default: the first that is connected]."),
            click.Option(
                ["--restarts"], type=click.IntRange(0, 10), default=2, show_default=True, help="Restart so often.",
            ),
            click.Option(
                ["--timeout"], type=click.FloatRange(0), default=120.0, show_default=True,
                help="Seconds that each restart may take, until every account is connected again.",
            ),
            click.Option(
                ["--window-hours", "--windowHours"], type=click.FloatRange(0, min_open=True), default=0.25,
                show_default=True, help="Audit so many hours back.",
            ),
            click.Option(
                ["--limit"], type=click.IntRange(1, 1_000_000), default=500, show_default=True,
                help="Audit at most so many messages, the newest first.",
            ),
            config_option(),
            json_option(),
        ],
        callback=_verify,
        help=_HELP,
    )  # fmt: skip


def _verify(
    to: str,
    account: str,
    restarts: int,
    timeout: float,
    window_hours: float,
    limit: int,
    file: Path | None,
) -> None:
    from wad.audit.verify import Observed, judge

    now, step = session(), "audit_failed_before"
    try:
        before = _audited(file, window_hours, limit)
        step = "quick_write_failed"
        sent = _send(now, account, to) if to else None
        done = _restarts(now, restarts, timeout)
        step = "status_failed"
        accounts = ask(now, "status")["accounts"]
        step = "audit_failed_after"
        after = _audited(file, window_hours, limit)
        stored = sent is not None and _is_stored(file, sent)
    except WadError as error:
        _failed(now, step, error)
        return
    connected = sum(each["state"] == "connected" for each in accounts)
    end, report = judge(
        Observed(before, after, restarts, done, sent, stored, len(accounts), connected)
    )  # fmt: skip
    if now.json:
        now.document(report)
    else:
        _show(now, report)
    raise click.exceptions.Exit(int(end))


def _audited(file: Path | None, window_hours: float, limit: int) -> Audited:
    from wad.audit.duplicates import Question, audit_messages, audit_threads
    from wad.audit.verify import Audited
    from wad.clock import SystemClock

    question = Question(SystemClock().wall_ms(), window_hours, limit)
    with closing(rows_of(file)) as rows:
        return Audited(audit_messages(rows, question), audit_threads(rows, question))


def _is_stored(file: Path | None, sent: Sent) -> bool:
    """Whether the store has a message with the WhatsApp id under which it left."""
    from wad.audit.rows import Scope

    with closing(rows_of(file)) as rows:
        found = rows.messages(Scope("", sent.thread, 1, _NEWEST)).rows
    return any(row.wa_id == sent.wa_id != "" for row in found)


def _send(now: Session, account: str, to: str) -> Sent:
    """Send a message and wait until it has left; what failed is a word of the reference's."""
    import secrets

    from wad.audit.verify import Sent

    accounts = ask(now, "status")["accounts"]
    able = [each["id"] for each in accounts if each["state"] == "connected"]
    if not account and not able:
        return Sent("", to, error="no_account")
    who = account or able[0]
    ident = f"verify-{secrets.token_hex(8)}"
    params = {"account": who, "to": to, "text": f"wad {ident}", "client_id": ident}
    now.say("sending ...")
    try:
        with now.client() as client:
            reply = client.call("messages.send", params | {"wait": _FOR_SENDING}, wait=_FOR_SENDING)
    except WadError as error:
        return Sent(who, to, error=error.code)
    entry: Any = reply["message"]
    return Sent(who, to, entry["error_code"], entry["state"], entry["wa_id"], entry["thread"])


def _restarts(now: Session, count: int, timeout: float) -> tuple[str, ...]:
    """The error of each restart, up to the first that failed."""
    done: list[str] = []
    while len(done) < count and not any(done):
        now.say(f"restart {len(done) + 1} of {count} ...")
        done.append(restart_and_compare(now, timeout).error)
    return tuple(done)


def _failed(now: Session, step: str, error: WadError) -> None:
    """Raises Exit."""
    if now.json:
        now.document(
            {"verdict": False, "error": step, "code": error.code, "message": str(error)}
        )  # fmt: skip
    now.complain(error)
    raise click.exceptions.Exit(FAILED) from error


def _show(now: Session, report: Verification) -> None:
    why = "" if report.not_ready_reason is None else report.not_ready_reason.replace("_", " ")
    write = report.quick_write
    rows = [
        ("verdict", "verified" if report.verdict else f"not verified: {why}"),
        ("restarts", report.restart_error or f"{report.restarts}, every account came back"),
        ("accounts", f"{report.connected} of {report.accounts} connected"),
        ("message", "none was sent" if write is None else write.error or ("sent" if write.sent else "not sent")),
        ("duplicates", f"{report.duplicates_count_active_before} before, {report.duplicates_count_active_after} after,"
         f" among {report.after.active_docs} messages of {report.window_hours:g} h"),
    ]  # fmt: skip
    click.echo(now.screen.fields(rows), color=now.screen.colour)
