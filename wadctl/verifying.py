"""`wadctl verify`: audits, sends, restarts twice and audits again; exit code 0 only when every step passed.

Exit codes: 0 verified; 2 a step failed; 3 duplicates increased; 4 the sent message is not in the store; 10 no messages
in the window; 64 usage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from wad.api.views.account import AccountView
from wad.api.views.outbox import SendReply
from wad.api.views.status import StatusView
from wad.core.errors import WadError
from wadctl.auditing import AuditCommand, load_installation, rows_of
from wadctl.commands import config_option, json_option
from wadctl.doctoring import restart_and_compare
from wadctl.invocation import Invocation, current_invocation

if TYPE_CHECKING:
    from wad.audit.installation import Installation
    from wad.audit.verify import Audited, SentMessage, Verification

FAILED: Final = 2
_SEND_TIMEOUT_S: Final = 60.0
_SYNC_TIMEOUT_S: Final = 120.0  # until a message is in Firestore; as in the replaced script
_FIRESTORE_ERRORS: Final = {
    "missing_index": "firestore_index_required",
    "missing_credentials": "firestore_credentials_missing",
}
RESTARTS: Final = 2
_NEWEST: Final = 1000  # messages of the thread, among which the sent one must be

_HELP: Final = """\
Verify that restarts lose no messages and store none twice.

Audits the store, sends a message if --to is given, restarts the daemon (twice by default), waits each time until every
account that was connected is connected again, and audits once more. $RESTART_CMD is a shell command that restarts the
daemon, instead of a request to it. With $ALLOW_FALLBACK_READY=true an audit counts even if Firestore answered without
the query's index.

Example: wadctl verify --to +15550000001

Exit code: 0 verified, and nothing else is 0; 2 a step failed; 3 duplicates increased; 4 the sent message is not in
the store; 10 no messages in the window; 64 usage."""


def verify_command() -> AuditCommand:
    """The command `verify`."""
    return AuditCommand(
        "verify",
        params=[
            click.Option(
                ["--to"], default="", metavar="NUMBER", envvar="DEST_JID",
                help="Send a short message to this number or JID [default: $DEST_JID].",
            ),
            click.Option(["--account"], default="", help="The sending account [default: the first connected one]."),
            click.Option(
                ["--restarts"], type=click.IntRange(0, 10),
                help=f"How many restarts [default: {RESTARTS}, or 0 where $RUN_RESTART is false].",
            ),
            click.Option(
                ["--timeout"], type=click.FloatRange(0), default=120.0, show_default=True,
                help="Seconds to wait after each restart until every account is connected again.",
            ),
            click.Option(
                ["--window-hours", "--windowHours"], type=click.FloatRange(0, min_open=True), default=0.25,
                show_default=True, help="Audit this number of hours back.",
            ),
            click.Option(
                ["--limit"], type=click.IntRange(1, 1_000_000), default=500, show_default=True,
                help="Audit at most this number of messages, the newest first.",
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
    restarts: int | None,
    timeout: float,
    window_hours: float,
    limit: int,
    file: Path | None,
) -> None:
    from wad.audit.verify import Observed, judge

    invocation, step, installation = current_invocation(), "audit_failed_before", None
    wanted, skipped = _wanted(restarts, os.environ)
    try:
        installation = load_installation(file)
        before = _audited(installation, window_hours, limit)
        step = "quick_write_failed"
        sent = _send(invocation, account, to) if to else None
        done = _restarts(invocation, wanted, timeout, os.environ.get("RESTART_CMD", ""))
        step = "status_failed"
        accounts = _accounts(invocation)
        step = "audit_failed_after"
        stored = sent is not None and _is_stored(invocation, installation, sent)
        after = _audited(installation, window_hours, limit)
    except WadError as error:
        _failed(invocation, step, error, installation)
    connected = sum(account.state == "connected" for account in accounts)
    end, report = judge(
        Observed(
            before, after, wanted, done, sent, stored, len(accounts), connected, skipped,
            fallback_allowed=_is_true(os.environ.get("ALLOW_FALLBACK_READY", "")),
        )
    )  # fmt: skip
    if invocation.json:
        invocation.print_json(report)
    else:
        _show(invocation, report)
    raise click.exceptions.Exit(int(end))


def _wanted(restarts: int | None, environ: Mapping[str, str]) -> tuple[int, str]:
    """The number of restarts, and the reason for none; the option overrides the replaced script's variable."""
    if environ.get("RESTART_SSH"):
        click.echo(
            "wadctl: RESTART_SSH is ignored: wadctl verifies the daemon of this machine; run it there, over ssh",
            err=True,
        )
    if restarts is not None:
        return restarts, "" if restarts else "--restarts 0"
    value = environ.get("RUN_RESTART", "")
    return (RESTARTS, "") if not value or _is_true(value) else (0, f"RUN_RESTART is {value}")


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")


def _audited(installation: Installation, window_hours: float, limit: int) -> Audited:
    from wad.audit.duplicates import Question, audit_messages, audit_threads
    from wad.audit.verify import Audited
    from wad.lib.clock import SystemClock

    question = Question(SystemClock().wall_ms(), window_hours, limit)
    with closing(rows_of(installation)) as rows:
        return Audited(audit_messages(rows, question), audit_threads(rows, question))


def _is_stored(invocation: Invocation, installation: Installation, sent: SentMessage) -> bool:
    """Whether the store has a message with the sent WhatsApp id; Firestore gets it a moment later."""
    from wad.audit.rows import Scope

    end = invocation.monotonic() + (_SYNC_TIMEOUT_S if installation.kind == "firestore" else 0)
    while True:
        with closing(rows_of(installation)) as rows:
            found = rows.messages(Scope("", sent.thread, 1, _NEWEST)).rows
        if any(row.wa_id == sent.wa_id != "" for row in found):
            return True
        if invocation.monotonic() >= end or not sent.wa_id:
            return False
        invocation.sleep(1)


def _send(invocation: Invocation, account: str, to: str) -> SentMessage:
    """Send a message and wait until it is sent; errors are the replaced script's codes."""
    import secrets

    from wad.audit.verify import SentMessage

    able = [each.id for each in _accounts(invocation) if each.state == "connected"]
    if not account and not able:
        return SentMessage("", to, error="no_account")
    sender = account or able[0]
    ident = f"verify-{secrets.token_hex(8)}"
    params = {"account": sender, "to": to, "text": f"wad {ident}", "client_id": ident}
    invocation.print_line("sending ...")
    try:
        with invocation.client() as client:
            reply = client.fetch(
                SendReply,
                "messages.send",
                params | {"wait": _SEND_TIMEOUT_S},
                wait=_SEND_TIMEOUT_S,
            )
    except WadError as error:
        return SentMessage(sender, to, error=error.code)
    entry = reply.message
    return SentMessage(sender, to, entry.error_code, entry.state, entry.wa_id, entry.thread)


def _accounts(invocation: Invocation) -> tuple[AccountView, ...]:
    """The accounts of the running daemon.  Raises WadError."""
    with invocation.client() as client:
        return client.fetch(StatusView, "status").accounts


def _restarts(invocation: Invocation, count: int, timeout: float, command: str) -> tuple[str, ...]:
    """The error text of each restart (empty: none), up to the first failure."""
    done: list[str] = []
    while len(done) < count and not any(done):
        invocation.print_line(f"restart {len(done) + 1} of {count} ...")
        done.append(restart_and_compare(invocation, timeout, command).error)
    return tuple(done)


def _failed(
    invocation: Invocation, step: str, error: WadError, installation: Installation | None
) -> NoReturn:
    """Report a failed step; a missing index or credentials get the replaced script's codes.  Raises Exit."""
    from wad.audit.failure import failure_of

    if invocation.json:
        failure = failure_of(error, installation, os.environ, link=True)
        named = step
        if failure["error"].startswith("firestore"):
            named = _FIRESTORE_ERRORS.get(failure["hint"], step)
        invocation.print_json(
            {
                "verdict": False, "error": named, "step": step, "code": error.code, "message": str(error),
                "indexLink": failure["indexLink"],
            }
        )  # fmt: skip
    invocation.print_error(error)
    raise click.exceptions.Exit(FAILED) from error


def _show(invocation: Invocation, report: Verification) -> None:
    why = "" if report.not_ready_reason is None else report.not_ready_reason.replace("_", " ")
    write = report.quick_write
    rows = [
        ("verdict", "verified" if report.verdict else f"not verified: {why}"),
        ("restarts", _restarted(report)),
        ("accounts", f"{report.connected} of {report.accounts} connected"),
        ("message", "none sent" if write is None else write.error or ("sent" if write.sent else "not sent")),
        ("duplicates", f"{report.duplicates_count_active_before} before, {report.duplicates_count_active_after} after,"
         f" among {report.after.active_docs} messages of {report.window_hours:g} h"),
    ]  # fmt: skip
    click.echo(invocation.screen.fields(rows), color=invocation.screen.colour)


def _restarted(report: Verification) -> str:
    if report.restart_skipped_reason:
        return f"none ({report.restart_skipped_reason})"
    return report.restart_error or f"{report.restarts}, every account reconnected"
