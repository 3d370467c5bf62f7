"""`wadctl doctor`: checks the whole installation from outside.

Exit codes: 0 healthy, 2 a check failed (FAIL), 10 a check needs attention (WARN), 64 usage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from wad.core.errors import TimedOut, WadError
from wadctl.auditing import AuditCommand
from wadctl.commands import config_option, json_option
from wadctl.invocation import Invocation, current_invocation
from wadctl.restarting import RestartRun, perform
from wadctl.screen import plain, wrapped

if TYPE_CHECKING:
    from wad.audit.doctor.facts import RestartComparison
    from wad.audit.doctor.report import Examination

_CODES: Final = {"healthy": 0, "unhealthy": 2, "attention": 10}
_COLOURS: Final = {"PASS": "green", "WARN": "yellow", "FAIL": "red", "SKIPPED": "dim"}
_POLL_S: Final = 0.2
_OUTCOME: Final = 9  # columns of the outcome
_READABLE: Final = 60  # columns of evidence; with fewer, the title is not a column of its own

_HELP: Final = """\
Check the installation and print how to fix problems.

Each line is PASS, WARN, FAIL or SKIPPED, with the evidence and the commands that fix it. Nothing is changed; only
--restart restarts the daemon. In a pipe, and with --markdown or --json, phone numbers are masked and the machine's
name is a hash, so that a report can be sent to others; a terminal and --full show them. Run it as root: checks that
need more rights are skipped.

Example: sudo wadctl doctor --markdown > report.md

Exit code: 0 healthy, 2 a check failed, 10 a check needs attention, 64 usage."""


def doctor_command() -> AuditCommand:
    """The command `doctor`."""
    return AuditCommand(
        "doctor",
        params=[
            click.Option(["--restart"], is_flag=True, help="Restart the daemon and check that all accounts reconnect."),
            click.Option(
                ["--timeout"], type=click.FloatRange(0), default=120.0, show_default=True,
                help="Seconds to wait after the restart until every account is connected again.",
            ),
            click.Option(["--markdown"], is_flag=True, help="Print a Markdown report, to send to others."),
            click.Option(["--full"], is_flag=True, help="Show numbers and names unmasked."),
            config_option(),
            json_option(),
        ],
        callback=_doctor,
        help=_HELP,
    )  # fmt: skip


def _doctor(restart: bool, timeout: float, markdown: bool, full: bool, file: Path | None) -> None:
    from wad.audit.doctor.gathering import Means, gather
    from wad.audit.doctor.report import examine
    from wad.audit.doctor.report import markdown as page
    from wad.lib.clock import SystemClock

    invocation, clock = current_invocation(), SystemClock()
    restarted = restart_and_compare(invocation, timeout) if restart else None
    facts = gather(Means(lambda name: call(invocation, name), os.environ, file, clock), restarted)
    # A terminal belongs to somebody who may see everything, and the commands must run as they are printed.
    private = invocation.screen.terminal and not (markdown or invocation.json)
    examination = examine(facts, clock.wall_ms(), sanitised=not (full or private))
    if invocation.json:
        invocation.print_json(examination)
    elif markdown:
        click.echo(page(examination))
    else:
        _show(invocation, examination)
    raise click.exceptions.Exit(_CODES[examination.verdict])


def call(invocation: Invocation, name: str) -> Any:
    """Call one operation on a new connection.  Raises WadError."""
    with invocation.client() as client:
        return client.call(name)


def restart_and_compare(
    invocation: Invocation, timeout: float, command: str = ""
) -> RestartComparison:
    """Restart, wait until the accounts that were connected are connected again, and compare them.

    `command`: a shell command that restarts the daemon, instead of a request to it.
    """
    from wad.audit.doctor.facts import RestartComparison

    before: tuple[Any, ...] = ()
    after: tuple[Any, ...] = ()
    try:
        before = tuple(call(invocation, "status")["accounts"])
        end = invocation.monotonic() + timeout
        perform(invocation, RestartRun(), timeout, command)
        after = _await_accounts(invocation, before, end)
    except WadError as error:
        return RestartComparison(before, after, str(error))
    return RestartComparison(before, after)


def _await_accounts(invocation: Invocation, before: tuple[Any, ...], end: float) -> tuple[Any, ...]:
    """The accounts, once all that were connected are connected.  Raises TimedOut with the ids of the others."""
    wanted = {account["id"] for account in before if account["state"] == "connected"}
    while True:
        found = call(invocation, "status")["accounts"]
        missing = wanted - {account["id"] for account in found if account["state"] == "connected"}
        if not missing:
            return tuple(found)
        if invocation.monotonic() >= end:
            raise TimedOut(f"not connected again in time: {', '.join(sorted(missing))}")
        invocation.sleep(_POLL_S)


def _show(invocation: Invocation, examination: Examination) -> None:
    screen = invocation.screen
    width = max(len(check.title) for check in examination.checks)
    indent = _OUTCOME + width + 2
    wide = not screen.width or screen.width - indent >= _READABLE
    indent = indent if wide else _OUTCOME
    for check in examination.checks:
        outcome = screen.paint(f"{check.outcome:{_OUTCOME}}", _COLOURS[check.outcome])
        title = f"{check.title:{width}}  " if wide else ""
        text = plain(check.evidence if wide else f"{check.title}: {check.evidence}")
        first, *more = wrapped(text, screen.width - indent) if screen.width and text else [text]
        invocation.print_line(f"{outcome}{title}{first}")
        for line in [*more, *(f"> {plain(command)}" for command in check.fix)]:
            invocation.print_line(" " * indent + line)
    counts = ", ".join(f"{count} {name}" for name, count in examination.counts.items())
    invocation.print_line(f"\n{examination.verdict}: {counts}")
