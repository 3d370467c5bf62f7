"""`wadctl audit`: reads the store itself, so that it works without a daemon.

The exit codes are those of the scripts that it replaces (docs/internals/replaced-backend.md#scripts), made distinct:
0 clean, 1 the audit could not run, 2 duplicates, 10 inconclusive; since 2 is taken, a usage error exits with 64.
The audit code is imported only when a command runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import msgspec

from wad.core.errors import WadError
from wadctl.commands import Command, CommandGroup, config_option, json_option
from wadctl.invocation import Invocation, current_invocation

if TYPE_CHECKING:
    from wad.audit.duplicates import Question
    from wad.audit.installation import Installation
    from wad.audit.reports import MessagesReport, ThreadsReport
    from wad.audit.rows import Rows

CLEAN: Final = 0
NO_AUDIT: Final = 1
DUPLICATES: Final = 2
INCONCLUSIVE: Final = 10
USAGE: Final = 64  # EX_USAGE of sysexits.h
_CODES: Final = {"clean": CLEAN, "duplicates": DUPLICATES, "inconclusive": INCONCLUSIVE}

_EXIT: Final = (
    "Exit code: 0 no duplicates, 2 duplicates, 10 inconclusive (no messages in the window),"
    " 1 the audit could not run, 64 usage."
)
_MESSAGES: Final = f"""\
Find messages that are stored twice.

Reads SQLite or Firestore directly and changes nothing; the daemon need not run. Two messages are duplicates when they
have the same WhatsApp id in the same conversation; without an id, when their stored keys, or text, time and sender,
are equal.

Example: wadctl audit messages --window-hours 24

{_EXIT}"""
_THREADS: Final = f"""\
Find conversations that are stored as two threads.

A conversation is an account and a number; a LID counts as its number where that is known.

{_EXIT}"""


class Misused(click.UsageError):
    """A usage error with exit code 64."""

    exit_code = USAGE


class AuditCommand(Command):
    """A command whose usage errors exit with 64, since 2 means duplicates here."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments as click does.  Raises Misused."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise Misused(error.format_message(), error.ctx) from error


def audit_group() -> click.Group:
    """The group `wadctl audit` with its commands."""
    group = CommandGroup("audit", help="Find and repair duplicates and wrong data in the store.")
    account = click.Option(["--account", "--accountId"], default="", help="Only this account (id).")
    thread = click.Option(["--thread", "--threadId"], default="", help="Only this thread (id).")
    mode = click.Option(
        ["--key-mode", "--keyMode", "mode"], type=click.Choice(["stable", "fallback"]), default="stable",
        show_default=True, help="How duplicates are found: by WhatsApp's ids, or by text and time alone.",
    )  # fmt: skip
    marked = click.Option(
        ["--exclude-marked/--include-marked", "--excludeMarked/--includeMarked"], default=True, show_default=True,
        help="Ignore messages that are marked as duplicates already.",
    )  # fmt: skip
    group.add_command(
        _command("messages", _MESSAGES, _messages, [account, thread, mode, marked, *_shared()])
    )
    group.add_command(_command("threads", _THREADS, _threads, [account, *_shared()]))
    return group


def _shared() -> list[click.Parameter]:
    return [
        click.Option(
            ["--window-hours", "--windowHours"], type=click.FloatRange(0, min_open=True), default=48.0,
            show_default=True, help="Audit this number of hours back from now.",
        ),
        click.Option(
            ["--limit"], type=click.IntRange(1, 1_000_000), default=500, show_default=True,
            help="Audit at most this number of messages, the newest first.",
        ),
        click.Option(
            ["--print-index-link/--no-print-index-link", "--printIndexLink/--no-printIndexLink", "link"],
            default=True, show_default=True, help="Print the link that creates a missing Firestore index.",
        ),
        # Scripts that call the replaced ones pass --debug; an audit shows every error whole.
        click.Option(["--debug"], is_flag=False, flag_value="1", hidden=True, expose_value=False, help="Nothing."),
        click.Option(["--dry-run", "--dryRun"], is_flag=True, hidden=True, help="Repeated in the report as dryRun."),
        config_option(),
        json_option(),
    ]  # fmt: skip


def _command(
    name: str, text: str, callback: Callable[..., None], params: list[click.Parameter]
) -> AuditCommand:
    return AuditCommand(name, params=params, callback=callback, help=text)


def _messages(window_hours: float, limit: int, link: bool, file: Path | None, **asked: Any) -> None:
    from wad.audit.duplicates import Question, audit_messages
    from wad.audit.keys import KeyMode

    question = Question(
        _now_ms(), window_hours, limit, asked["account"], asked["thread"], asked["exclude_marked"],
        KeyMode(asked["mode"]), asked["dry_run"],
    )  # fmt: skip
    _run(file, link, question, audit_messages, _show_messages)


def _threads(
    window_hours: float, limit: int, link: bool, file: Path | None, account: str, dry_run: bool
) -> None:
    """Audit the threads; their report does not repeat `dry_run`, as in the replaced backend."""
    from wad.audit.duplicates import Question, audit_threads

    question = Question(_now_ms(), window_hours, limit, account)
    _run(file, link, question, audit_threads, _show_threads)


def _now_ms() -> int:
    from wad.lib.clock import SystemClock

    return SystemClock().wall_ms()


def _run(
    file: Path | None,
    link: bool,
    question: Question,
    audit: Callable[[Rows, Question], Any],
    show: Callable[[Invocation, Any], None],
) -> None:
    """Run an audit and show its report.  Raises Exit with the verdict's code."""
    invocation, installation, mode = current_invocation(), None, "desc"
    try:
        installation = load_installation(file)
        with closing(rows_of(installation)) as rows:
            try:
                report = audit(rows, question)
            finally:
                mode = rows.mode
    except WadError as error:
        no_audit(invocation, error, installation, link=link, mode=mode)
    if not link:
        report = msgspec.structs.replace(report, index_link=None)
    if invocation.json:
        invocation.print_json(report)
    else:
        show(invocation, report)
    raise click.exceptions.Exit(_CODES[report.verdict])


def load_installation(file: Path | None) -> Installation:
    """The installation that this configuration file describes.  Raises BadConfig."""
    from wad.audit.installation import installation_of

    return installation_of(file, os.environ)


def rows_of(installation: Installation) -> Rows:
    """The installation's store, open for reading.  Raises WadError."""
    from wad.audit import open_rows

    return open_rows(installation.kind, installation.state_dir, installation.store)


def no_audit(
    invocation: Invocation,
    error: WadError,
    installation: Installation | None,
    *,
    link: bool,
    mode: str = "desc",
) -> NoReturn:
    """Report why the audit could not run, with the replaced scripts' fields.  Raises Exit."""
    from wad.audit.failure import failure_of

    if invocation.json:
        invocation.print_json(failure_of(error, installation, os.environ, link=link, mode=mode))
    invocation.print_error(error)
    raise click.exceptions.Exit(NO_AUDIT) from error


# --- text output ----------------------------------------------------------------------------------


def _show_messages(invocation: Invocation, report: MessagesReport) -> None:
    rows = [
        ("verdict", _verdict(report, report.duplicates_count_active)),
        (
            "messages",
            f"{report.total_docs}, of which {report.marked_docs} are marked as duplicates",
        ),
        ("identities", str(report.unique_keys)),
        ("keys made from", _counts(msgspec.structs.asdict(report.key_strategy_used_counts))),
        ("times written as", _counts(report.ts_client_types)),
    ]
    _show(invocation, [*rows, *_window(report)])
    for group in report.top_duplicate_groups:
        others = ", ".join(group.duplicate_hashes)
        invocation.print_line(
            f"{group.size} x {group.key_hash}: keep {group.canonical_hash}, not {others}"
        )


def _show_threads(invocation: Invocation, report: ThreadsReport) -> None:
    rows = [
        ("verdict", _verdict(report, report.duplicates_count)),
        ("threads", str(report.total_threads)),
        ("conversations", str(report.unique_keys)),
        ("by LID", str(report.lid_threads_count)),
        ("without an address", str(report.object_threads_count)),
        ("without a name", str(report.unknown_name_count)),
        ("times written as", _counts(report.last_message_at_types)),
    ]
    _show(invocation, [*rows, *_window(report)])
    for group in report.top_duplicate_groups:
        invocation.print_line(f"{group.count} x {group.key_hash}")


def _window(report: MessagesReport | ThreadsReport) -> list[tuple[str, str]]:
    skipped = report.skipped
    cut = f", cut at the newest {report.limit}" if report.limit_reached else ""
    return [
        ("window", f"{report.window_hours:g} h{cut}"),
        ("age", _age(report.newest_age_seconds, report.oldest_age_seconds)),
        (
            "not audited",
            f"{skipped.out_of_window} older, {skipped.unreadable_time} without a time",
        ),
        ("store", report.store),
        *([("missing index", report.index_link)] if report.index_link else []),
    ]


def _show(invocation: Invocation, rows: list[tuple[str, str]]) -> None:
    click.echo(invocation.screen.fields(rows), color=invocation.screen.colour)


def _verdict(report: MessagesReport | ThreadsReport, duplicates: int) -> str:
    match report.verdict:
        case "duplicates":
            return f"{duplicates} duplicates; wadctl audit repair shows how they would be repaired"
        case "inconclusive":
            return "inconclusive: no messages in the window"
    return "clean"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "-"


def _age(newest: float | None, oldest: float | None) -> str:
    from wadctl.screen import duration

    if newest is None or oldest is None:
        return "-"
    return f"from {duration(oldest)} to {duration(newest)}"
