"""`wadctl doctor`: the whole installation looked at in one go, from outside.

Exit codes: 0 healthy, 2 something does not work (FAIL), 10 something wants attention (WARN), 64 usage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from wad.core.errors import TimedOut, WadError
from wadctl.auditing import AuditCommand
from wadctl.commands import config_option, json_option
from wadctl.restarting import RestartRun, perform
from wadctl.screen import plain
from wadctl.session import Invocation, session

if TYPE_CHECKING:
    from wad.audit.doctor.facts import RestartComparison
    from wad.audit.doctor.report import Examination

_CODES: Final = {"healthy": 0, "unhealthy": 2, "attention": 10}
_COLOURS: Final = {"PASS": "green", "WARN": "yellow", "FAIL": "red", "SKIPPED": "dim"}
_LOOK: Final = 0.2  # seconds between looks

_HELP: Final = """\
Look at the whole installation, and say what to do.

Each line is PASS, WARN, FAIL or SKIPPED, with what shows it and the commands that mend it. Nothing is changed, but
for the restart that --restart asks for. Numbers are masked and the machine is named by a hash, so that a report can
be sent; --full shows all. Run it as root: what others may not look at is skipped.

Exit code: 0 healthy, 2 something does not work, 10 something wants attention, 64 usage."""


def doctor_command() -> AuditCommand:
    """The command."""
    return AuditCommand(
        "doctor",
        params=[
            click.Option(["--restart"], is_flag=True, help="Restart the daemon, and see that all accounts come back."),
            click.Option(
                ["--timeout"], type=click.FloatRange(0), default=120.0, show_default=True,
                help="Seconds that the restart may take, until every account is connected again.",
            ),
            click.Option(["--markdown"], is_flag=True, help="Print a page of Markdown, for a report to send."),
            click.Option(["--full"], is_flag=True, help="Mask nothing."),
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

    now, clock = session(), SystemClock()
    restarted = restart_and_compare(now, timeout) if restart else None
    facts = gather(Means(lambda name: ask(now, name), os.environ, file, clock), restarted)
    examination = examine(facts, clock.wall_ms(), sanitised=not full)
    if now.json:
        now.document(examination)
    elif markdown:
        click.echo(page(examination))
    else:
        _show(now, examination)
    raise click.exceptions.Exit(_CODES[examination.verdict])


def ask(now: Invocation, name: str) -> Any:
    """One operation, on a connection of its own.  Raises WadError."""
    with now.client() as client:
        return client.call(name)


def restart_and_compare(now: Invocation, timeout: float, command: str = "") -> RestartComparison:
    """Restart, wait until whoever was connected is so again, and tell of the accounts before and after.

    `command`: the line of shell that restarts the daemon, instead of asking it.
    """
    from wad.audit.doctor.facts import RestartComparison

    before: tuple[Any, ...] = ()
    after: tuple[Any, ...] = ()
    try:
        before = tuple(ask(now, "status")["accounts"])
        end = now.now() + timeout
        perform(now, RestartRun(), timeout, command)
        after = _await_accounts(now, before, end)
    except WadError as error:
        return RestartComparison(before, after, str(error))
    return RestartComparison(before, after)


def _await_accounts(now: Invocation, before: tuple[Any, ...], end: float) -> tuple[Any, ...]:
    """The accounts, once all that were connected are connected.  Raises TimedOut naming those that are not."""
    wanted = {account["id"] for account in before if account["state"] == "connected"}
    while True:
        found = ask(now, "status")["accounts"]
        missing = wanted - {account["id"] for account in found if account["state"] == "connected"}
        if not missing:
            return tuple(found)
        if now.now() >= end:
            raise TimedOut(f"not connected again in time: {', '.join(sorted(missing))}")
        now.sleep(_LOOK)


def _show(now: Invocation, examination: Examination) -> None:
    screen = now.screen
    width = max(len(check.title) for check in examination.checks)
    for check in examination.checks:
        outcome = screen.paint(f"{check.outcome:7}", _COLOURS[check.outcome])
        now.say(f"{outcome}  {check.title:{width}}  {plain(check.evidence)}")
        for line in check.fix:
            now.say(f"         {'':{width}}  > {plain(line)}")
    counts = ", ".join(f"{count} {name}" for name, count in examination.counts.items())
    now.say(f"\n{examination.verdict}: {counts}")
