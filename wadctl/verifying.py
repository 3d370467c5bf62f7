"""`wadctl verify`: audit, send, restart twice, audit again; 0 only when all of it was seen to be right.

Exit codes: 0 verified; 2 something failed; 3 duplicates increased; 4 what was sent is not in the store; 10 nothing to
judge by; 64 usage.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from wad.core.errors import WadError
from wadctl.auditing import AuditCommand, rows_of, the_place
from wadctl.commands import config_option, json_option
from wadctl.doctoring import ask, restart_and_compare
from wadctl.session import Invocation, session

if TYPE_CHECKING:
    from wad.audit.installation import Installation
    from wad.audit.verify import Audited, TestMessage, Verification

FAILED: Final = 2
_FOR_SENDING: Final = 60.0  # seconds
_FOR_TELLING: Final = 120.0  # seconds, as in the reference
_LACKS: Final = {
    "missing_index": "firestore_index_required",
    "missing_credentials": "firestore_credentials_missing",
}
RESTARTS: Final = 2
_NEWEST: Final = 1000  # messages of a thread among which the one that was sent must be

_HELP: Final = """\
Verify that restarts lose and double nothing.

Audits the store, sends a message if --to names somebody, restarts the daemon (twice by default) and waits each time
until every account that was connected is so again, and audits once more. $RESTART_CMD is a line of shell that restarts
the daemon, instead of asking it. With $ALLOW_FALLBACK_READY=true an audit counts that Firestore answered without the
index for it.

Exit code: 0 verified, and nothing else is 0; 2 something failed; 3 duplicates have increased; 4 the message that was
sent is not in the store; 10 there was nothing in the window to judge by; 64 usage."""


def verify_command() -> AuditCommand:
    """The command."""
    return AuditCommand(
        "verify",
        params=[
            click.Option(
                ["--to"], default="", metavar="NUMBER", envvar="DEST_JID",
                help="Send a short message to this number or JID [default: $DEST_JID].",
            ),
            click.Option(["--account"], default="", help="Who sends it [default: the first that is connected]."),
            click.Option(
                ["--restarts"], type=click.IntRange(0, 10),
                help=f"Restart so often [default: {RESTARTS}, or 0 where $RUN_RESTART is false].",
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
    restarts: int | None,
    timeout: float,
    window_hours: float,
    limit: int,
    file: Path | None,
) -> None:
    from wad.audit.verify import Observed, judge

    now, step, place = session(), "audit_failed_before", None
    wanted, skipped = _wanted(restarts, os.environ)
    try:
        place = the_place(file)
        before = _audited(place, window_hours, limit)
        step = "quick_write_failed"
        sent = _send(now, account, to) if to else None
        done = _restarts(now, wanted, timeout, os.environ.get("RESTART_CMD", ""))
        step = "status_failed"
        accounts = ask(now, "status")["accounts"]
        step = "audit_failed_after"
        stored = sent is not None and _is_stored(now, place, sent)
        after = _audited(place, window_hours, limit)
    except WadError as error:
        _failed(now, step, error, place)
    connected = sum(each["state"] == "connected" for each in accounts)
    end, report = judge(
        Observed(
            before, after, wanted, done, sent, stored, len(accounts), connected, skipped,
            fallback_allowed=_is_true(os.environ.get("ALLOW_FALLBACK_READY", "")),
        )
    )  # fmt: skip
    if now.json:
        now.document(report)
    else:
        _show(now, report)
    raise click.exceptions.Exit(int(end))


def _wanted(restarts: int | None, environ: Mapping[str, str]) -> tuple[int, str]:
    """How many restarts, and why none; the option counts before the reference's variable."""
    if environ.get("RESTART_SSH"):
        click.echo(
            "wadctl: RESTART_SSH is not used: what is verified is the daemon here; run wadctl verify there, over ssh",
            err=True,
        )
    if restarts is not None:
        return restarts, "" if restarts else "--restarts 0"
    told = environ.get("RUN_RESTART", "")
    return (RESTARTS, "") if not told or _is_true(told) else (0, f"RUN_RESTART is {told}")


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")


def _audited(place: Installation, window_hours: float, limit: int) -> Audited:
    from wad.audit.duplicates import Question, audit_messages, audit_threads
    from wad.audit.verify import Audited
    from wad.lib.clock import SystemClock

    question = Question(SystemClock().wall_ms(), window_hours, limit)
    with closing(rows_of(place)) as rows:
        return Audited(audit_messages(rows, question), audit_threads(rows, question))


def _is_stored(now: Invocation, place: Installation, sent: TestMessage) -> bool:
    """Whether the store has a message with the WhatsApp id under which it left; Firestore is told of it afterwards."""
    from wad.audit.rows import Scope

    end = now.now() + (_FOR_TELLING if place.kind == "firestore" else 0)
    while True:
        with closing(rows_of(place)) as rows:
            found = rows.messages(Scope("", sent.thread, 1, _NEWEST)).rows
        if any(row.wa_id == sent.wa_id != "" for row in found):
            return True
        if now.now() >= end or not sent.wa_id:
            return False
        now.sleep(1)


def _send(now: Invocation, account: str, to: str) -> TestMessage:
    """Send a message and wait until it has left; what failed is a word of the reference's."""
    import secrets

    from wad.audit.verify import TestMessage

    accounts = ask(now, "status")["accounts"]
    able = [each["id"] for each in accounts if each["state"] == "connected"]
    if not account and not able:
        return TestMessage("", to, error="no_account")
    who = account or able[0]
    ident = f"verify-{secrets.token_hex(8)}"
    params = {"account": who, "to": to, "text": f"wad {ident}", "client_id": ident}
    now.say("sending ...")
    try:
        with now.client() as client:
            reply = client.call("messages.send", params | {"wait": _FOR_SENDING}, wait=_FOR_SENDING)
    except WadError as error:
        return TestMessage(who, to, error=error.code)
    entry: Any = reply["message"]
    return TestMessage(
        who, to, entry["error_code"], entry["state"], entry["wa_id"], entry["thread"]
    )


def _restarts(now: Invocation, count: int, timeout: float, command: str) -> tuple[str, ...]:
    """The error of each restart, up to the first that failed."""
    done: list[str] = []
    while len(done) < count and not any(done):
        now.say(f"restart {len(done) + 1} of {count} ...")
        done.append(restart_and_compare(now, timeout, command).error)
    return tuple(done)


def _failed(now: Invocation, step: str, error: WadError, place: Installation | None) -> NoReturn:
    """Raises Exit.  What Firestore lacks is named as in the reference."""
    from wad.audit.failure import failure_of

    if now.json:
        failure = failure_of(error, place, os.environ, link=True)
        named = step
        if failure["error"].startswith("firestore"):
            named = _LACKS.get(failure["hint"], step)
        now.document(
            {
                "verdict": False, "error": named, "step": step, "code": error.code, "message": str(error),
                "indexLink": failure["indexLink"],
            }
        )  # fmt: skip
    now.complain(error)
    raise click.exceptions.Exit(FAILED) from error


def _show(now: Invocation, report: Verification) -> None:
    why = "" if report.not_ready_reason is None else report.not_ready_reason.replace("_", " ")
    write = report.quick_write
    rows = [
        ("verdict", "verified" if report.verdict else f"not verified: {why}"),
        ("restarts", _restarted(report)),
        ("accounts", f"{report.connected} of {report.accounts} connected"),
        ("message", "none was sent" if write is None else write.error or ("sent" if write.sent else "not sent")),
        ("duplicates", f"{report.duplicates_count_active_before} before, {report.duplicates_count_active_after} after,"
         f" among {report.after.active_docs} messages of {report.window_hours:g} h"),
    ]  # fmt: skip
    click.echo(now.screen.fields(rows), color=now.screen.colour)


def _restarted(report: Verification) -> str:
    if report.restart_skipped_reason:
        return f"none ({report.restart_skipped_reason})"
    return report.restart_error or f"{report.restarts}, every account came back"
