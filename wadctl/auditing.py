"""`wadctl audit`: looks into the store itself, so that it works whether the daemon runs or not.

Exit codes are those of the scripts that it replaces (docs/internals/replaced-backend.md#scripts), made distinct: 0
clean, 1 no audit took place, 2 duplicates, 10 inconclusive; since 2 is taken, a usage error ends with 64 here.  What
audits is imported only when a command runs.
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
from wadctl.session import Invocation, session

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
    "Exit code: 0 no duplicates, 2 duplicates, 10 inconclusive (nothing in the window, so nothing is shown),"
    " 1 no audit took place, 64 usage."
)
_MESSAGES: Final = f"""\
Look for messages that are stored twice.

Reads the store itself, also Firestore, and changes nothing; the daemon need not run. Messages are the same when they
have one WhatsApp id in one conversation; without an id, when their stored keys, or text, time and sender agree.

{_EXIT}"""
_THREADS: Final = f"""\
Look for conversations that are stored as two threads.

A conversation is one by account and number; a hidden id (LID) counts as the number where that is known.

{_EXIT}"""


class Misused(click.UsageError):
    """Wrong usage, with an exit code that means nothing else here."""

    exit_code = USAGE


class AuditCommand(Command):
    """A command that does not end with 2 for wrong usage, since that means duplicates here."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does.  Raises Misused."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise Misused(error.format_message(), error.ctx) from error


def audit_group() -> click.Group:
    """`wadctl audit` and what is below it."""
    group = CommandGroup("audit", help="Look for what should not be in the store.")
    account = click.Option(["--account", "--accountId"], default="", help="Only this account (id).")
    thread = click.Option(["--thread", "--threadId"], default="", help="Only this thread (id).")
    mode = click.Option(
        ["--key-mode", "--keyMode", "mode"], type=click.Choice(["stable", "fallback"]), default="stable",
        show_default=True, help="What makes two messages one: WhatsApp's ids, or text and time alone.",
    )  # fmt: skip
    marked = click.Option(
        ["--exclude-marked/--include-marked", "--excludeMarked/--includeMarked"], default=True, show_default=True,
        help="Whether what was marked as a duplicate before counts no more.",
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
            show_default=True, help="Only so many hours back from now.",
        ),
        click.Option(
            ["--limit"], type=click.IntRange(1, 1_000_000), default=500, show_default=True,
            help="At most so many, the newest first.",
        ),
        click.Option(
            ["--print-index-link/--no-print-index-link", "--printIndexLink/--no-printIndexLink", "link"],
            default=True, show_default=True, help="Name the page that creates an index that a query lacks.",
        ),
        # Scripts that call those of the reference give these; an audit never writes, and hides nothing of an error.
        click.Option(["--debug"], is_flag=False, flag_value="1", hidden=True, expose_value=False, help="Nothing."),
        click.Option(["--dry-run", "--dryRun"], is_flag=True, hidden=True, expose_value=False, help="Nothing."),
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
        KeyMode(asked["mode"]),
    )  # fmt: skip
    _run(file, link, question, audit_messages, _show_messages)


def _threads(window_hours: float, limit: int, link: bool, file: Path | None, account: str) -> None:
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
    """Audit and show.  Raises Exit with the verdict's code."""
    now, place, mode = session(), None, "desc"
    try:
        place = the_place(file)
        with closing(rows_of(place)) as rows:
            try:
                report = audit(rows, question)
            finally:
                mode = rows.mode
    except WadError as error:
        no_audit(now, error, place, link=link, mode=mode)
    if not link:
        report = msgspec.structs.replace(report, index_link=None)
    if now.json:
        now.document(report)
    else:
        show(now, report)
    raise click.exceptions.Exit(_CODES[report.verdict])


def the_place(file: Path | None) -> Installation:
    """The installation that this file configures.  Raises BadConfig."""
    from wad.audit.installation import place_of

    return place_of(file, os.environ)


def rows_of(place: Installation) -> Rows:
    """Its store, open for reading.  Raises WadError."""
    from wad.audit import open_rows

    return open_rows(place.kind, place.state_dir, place.store)


def no_audit(
    now: Invocation, error: WadError, place: Installation | None, *, link: bool, mode: str = "desc"
) -> NoReturn:
    """Say why no audit took place, with the fields of the reference.  Raises Exit."""
    from wad.audit.failure import failure_of

    if now.json:
        now.document(failure_of(error, place, os.environ, link=link, mode=mode))
    now.complain(error)
    raise click.exceptions.Exit(NO_AUDIT) from error


# --- for people -----------------------------------------------------------------------------------


def _show_messages(now: Invocation, report: MessagesReport) -> None:
    rows = [
        ("verdict", _verdict(report, report.duplicates_count_active)),
        (
            "messages",
            f"{report.total_docs}, of which {report.marked_docs} are marked as duplicates",
        ),
        ("identities", str(report.unique_keys)),
        ("made from", _counts(msgspec.structs.asdict(report.key_strategy_used_counts))),
        ("times written as", _counts(report.ts_client_types)),
    ]
    _show(now, [*rows, *_window(report)])
    for group in report.top_duplicate_groups:
        others = ", ".join(group.duplicate_hashes)
        now.say(f"{group.size} x {group.key_hash}: keep {group.canonical_hash}, not {others}")


def _show_threads(now: Invocation, report: ThreadsReport) -> None:
    rows = [
        ("verdict", _verdict(report, report.duplicates_count)),
        ("threads", str(report.total_threads)),
        ("conversations", str(report.unique_keys)),
        ("by hidden id", str(report.lid_threads_count)),
        ("without an address", str(report.object_threads_count)),
        ("without a name", str(report.unknown_name_count)),
        ("times written as", _counts(report.last_message_at_types)),
    ]
    _show(now, [*rows, *_window(report)])
    for group in report.top_duplicate_groups:
        now.say(f"{group.count} x {group.key_hash}")


def _window(report: MessagesReport | ThreadsReport) -> list[tuple[str, str]]:
    skipped = report.skipped
    cut = f", cut at the newest {report.limit}" if report.limit_reached else ""
    return [
        ("window", f"{report.window_hours:g} h{cut}"),
        ("age", _age(report.newest_age_seconds, report.oldest_age_seconds)),
        (
            "not looked at",
            f"{skipped.out_of_window} older, {skipped.unreadable_time} without a time",
        ),
        ("store", report.store),
        *([("missing index", report.index_link)] if report.index_link else []),
    ]


def _show(now: Invocation, rows: list[tuple[str, str]]) -> None:
    click.echo(now.screen.fields(rows), color=now.screen.colour)


def _verdict(report: MessagesReport | ThreadsReport, double: int) -> str:
    match report.verdict:
        case "duplicates":
            return f"{double} duplicates; wadctl audit repair shows what can be done"
        case "inconclusive":
            return "inconclusive: nothing lies in the window, so nothing is shown"
    return "clean"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "-"


def _age(newest: float | None, oldest: float | None) -> str:
    from wadctl.screen import duration

    if newest is None or oldest is None:
        return "-"
    return f"from {duration(oldest)} to {duration(newest)}"
