"""`wadctl audit repair`: repairs the store; without --apply it only shows what it would do.

Exit codes: 0 nothing to do, or done; 2 a dry run found something; 1 the repair could not run; 64 usage.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from wad.core.errors import WadError
from wadctl.auditing import CLEAN, DUPLICATES, AuditCommand, load_installation, no_audit
from wadctl.commands import config_option, json_option
from wadctl.invocation import Invocation, current_invocation

if TYPE_CHECKING:
    from wad.audit.installation import Installation
    from wad.audit.reports import RepairReport
    from wad.audit.rows import Repairs

_CODES: Final = {"clean": CLEAN, "to_repair": DUPLICATES, "repaired": CLEAN}

_HELP: Final = """\
Repair what bugs left in the store.

Without --apply it changes nothing and shows what it would do. Duplicates are marked and no longer shown; invalid times,
wrong threads, statuses and summaries are corrected; conversations stored under both a LID and its number are merged.
The previous content of every changed row is saved to a file, and --undo restores it. The daemon may run; with SQLite
its writes wait meanwhile. In Firestore, documents of the replaced backend are repaired, and nothing is deleted.

Example: wadctl audit repair --apply

Exit code: 0 nothing to do, or done; 2 a dry run found something; 1 the repair could not run; 64 usage."""


def repair_command() -> AuditCommand:
    """The command `audit repair`."""
    path = click.Path(path_type=Path)
    return AuditCommand(
        "repair",
        params=[
            click.Option(["--apply"], is_flag=True, help="Make the changes."),
            click.Option(["--undo"], type=path, metavar="FILE", help="Undo the repair that wrote this file."),
            click.Option(
                ["--undo-file"], type=path, metavar="FILE",
                help="The undo file to write [default: repairs/TIME.undo in state.dir].",
            ),
            click.Option(["--account", "--accountId"], default="", help="Only this account (id)."),
            click.Option(["--thread", "--threadId"], default="", help="Only this thread (id)."),
            click.Option(
                ["--window-hours", "--windowHours"], type=click.FloatRange(0, min_open=True),
                help="Find duplicates only this number of hours back [default: all].",
            ),
            click.Option(
                ["--limit"], type=click.IntRange(1),
                help="Read at most this number of messages per thread [default: all].",
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

    invocation, installation = current_invocation(), None
    try:
        installation = load_installation(file)
        with closing(_tools(installation)) as tools:
            if undo is not None:
                _undo(invocation, tools, undo)
                return
            undo_path = (undo_file or _default_undo_file(installation.state_dir)) if apply else None
            report = tools.repair(Range(account, thread, window_hours, limit), undo_path)
    except WadError as error:
        no_audit(invocation, error, installation, link=True)
    if invocation.json:
        invocation.print_json(report)
    else:
        _show(invocation, report)
    raise click.exceptions.Exit(_CODES[report.verdict])


def _tools(installation: Installation) -> Repairs:
    """The repair tools for this kind of store.  Raises WadError."""
    from wad.audit import open_repairs
    from wad.lib.clock import SystemClock

    return open_repairs(
        installation.kind,
        installation.state_dir,
        installation.store,
        installation.lease,
        SystemClock(),
    )


def _default_undo_file(state_dir: Path) -> Path:
    return state_dir / "repairs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.undo"


def _undo(invocation: Invocation, tools: Repairs, undo: Path) -> None:
    report = tools.revert(undo)
    if invocation.json:
        invocation.print_json(report)
    invocation.print_line(f"undone: {report.rows} rows, {report.threads} threads")


def _show(invocation: Invocation, report: RepairReport) -> None:
    done = "" if report.dry_run else "done: "
    rows = [
        ("verdict", f"{done}{report.verdict.replace('_', ' ')}, {report.rows_changed} rows"),
        ("duplicates", f"{report.duplicates_to_mark} to mark, {report.duplicates_already_marked} marked before,"
         f" among {report.scanned_messages} messages"),
        ("times", f"{report.times_rewritten} to convert to numbers"),
        ("LIDs", f"{report.addresses_joined} to replace with their numbers"),
        ("messages", f"{report.messages_moved} to move to their threads"),
        ("statuses", f"{report.statuses_corrected} to correct"),
        ("receipts", f"{report.receipts_marked} without a message, to mark"),
        ("threads", f"{report.threads_updated} to recompute"),
        ("left unchanged", f"{report.left} rows whose right content is unknown"),
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
    click.echo(invocation.screen.fields(rows), color=invocation.screen.colour)
    if report.undo_file:
        invocation.print_line(f"undo it with: wadctl audit repair --undo {report.undo_file}")
    elif report.rows_changed:
        invocation.print_line("nothing was changed; apply it with: wadctl audit repair --apply")
