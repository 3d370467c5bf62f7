"""`wadctl audit repair`: mends the store; without --apply it only tells what it would do.

Exit codes: 0 nothing to do, or done; 2 a dry run has found something; 1 it could not be done; 64 usage.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from wad.core.errors import WadError
from wadctl.auditing import CLEAN, DUPLICATES, AuditCommand, no_audit, the_place
from wadctl.commands import config_option, json_option
from wadctl.session import Invocation, session

if TYPE_CHECKING:
    from wad.audit.installation import Installation
    from wad.audit.reports import RepairReport
    from wad.audit.rows import Repairs

_CODES: Final = {"clean": CLEAN, "to_repair": DUPLICATES, "repaired": CLEAN}

_HELP: Final = """\
Mend what bugs left in the store.

Without --apply it changes nothing and tells what it would do. Duplicates are marked and no longer shown; times that are
no numbers, wrong threads, statuses and summaries are put right; what lies under a hidden id and its number becomes one.
What every row was before is kept in a file, with which --undo takes it back. The daemon may run; with SQLite it waits
with its writes meanwhile. In Firestore documents of the backend before wad are mended, and nothing is deleted.

Exit code: 0 nothing to do, or done; 2 a dry run has found something, 1 it could not be done, 64 usage."""


def repair_command() -> AuditCommand:
    """The command."""
    path = click.Path(path_type=Path)
    return AuditCommand(
        "repair",
        params=[
            click.Option(["--apply"], is_flag=True, help="Do it."),
            click.Option(["--undo"], type=path, metavar="FILE", help="Take back the repair that wrote this file."),
            click.Option(
                ["--undo-file"], type=path, metavar="FILE",
                help="Where to keep what was before [default: repairs/TIME.undo in state.dir].",
            ),
            click.Option(["--account", "--accountId"], default="", help="Only this account (id)."),
            click.Option(["--thread", "--threadId"], default="", help="Only this thread (id)."),
            click.Option(
                ["--window-hours", "--windowHours"], type=click.FloatRange(0, min_open=True),
                help="Look for duplicates only so many hours back [default: all].",
            ),
            click.Option(
                ["--limit"], type=click.IntRange(1), help="Look at so many messages of a thread only [default: all].",
            ),
            config_option(),
            json_option(),
        ],
        callback=_repair,
        help=_HELP,
    )  # fmt: skip


def _repair(
    apply: bool,
    undo: Path | None,
    undo_file: Path | None,
    account: str,
    thread: str,
    window_hours: float | None,
    limit: int | None,
    file: Path | None,
) -> None:
    from wad.audit.rows import Range

    now, place = session(), None
    try:
        place = the_place(file)
        with closing(_tools(place)) as tools:
            if undo is not None:
                _take_back(now, tools, undo)
                return
            kept = (undo_file or _usual(place.state_dir)) if apply else None
            report = tools.repair(Range(account, thread, window_hours, limit), kept)
    except WadError as error:
        no_audit(now, error, place, link=True)
    if now.json:
        now.document(report)
    else:
        _show(now, report)
    raise click.exceptions.Exit(_CODES[report.verdict])


def _tools(place: Installation) -> Repairs:
    """What repairs this kind of store.  Raises WadError."""
    from wad.audit import open_repairs
    from wad.lib.clock import SystemClock

    return open_repairs(place.kind, place.state_dir, place.store, place.lease, SystemClock())


def _usual(state_dir: Path) -> Path:
    return state_dir / "repairs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.undo"


def _take_back(now: Invocation, tools: Repairs, undo: Path) -> None:
    report = tools.take_back(undo)
    if now.json:
        now.document(report)
    now.say(f"taken back: {report.rows} rows, {report.threads} threads")


def _show(now: Invocation, report: RepairReport) -> None:
    done = "" if report.dry_run else "done: "
    rows = [
        ("verdict", f"{done}{report.verdict.replace('_', ' ')}, {report.rows_changed} rows"),
        ("duplicates", f"{report.duplicates_to_mark} to mark, {report.duplicates_already_marked} marked before,"
         f" among {report.scanned_messages} messages"),
        ("times", f"{report.times_rewritten} to be numbers"),
        ("hidden ids", f"{report.addresses_joined} to be their numbers"),
        ("messages", f"{report.messages_moved} to go to their threads"),
        ("statuses", f"{report.statuses_corrected} to put right"),
        ("receipts", f"{report.receipts_marked} without a message, to mark"),
        ("threads", f"{report.threads_updated} to derive again"),
        ("left as it is", f"{report.left} rows, of which nothing tells what would be right"),
    ]  # fmt: skip
    if report.store == "sqlite":
        rows = [row for row in rows if row[0] != "receipts"]
    if report.changed_meanwhile:
        rows.append(
            (
                "not written",
                f"{report.changed_meanwhile} documents that changed meanwhile; run it again",
            )
        )
    click.echo(now.screen.fields(rows), color=now.screen.colour)
    if report.undo_file:
        now.say(f"wadctl audit repair --undo {report.undo_file} takes it back")
    elif report.rows_changed:
        now.say("nothing was changed; wadctl audit repair --apply does it")
