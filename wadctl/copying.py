"""`store copy` and `store import-legacy`: a progress bar on a terminal, with --json a line per step, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from wad.api.operation import find
from wad.api.views.store import CopyProgress, LegacyImportProgress
from wad.core.errors import BadInput
from wadctl.commands import Command, command_of, params_of
from wadctl.invocation import current_invocation
from wadctl.replies import decoded


def copy_command() -> Command:
    """The command `store copy`."""
    command = command_of(find("store.copy"))
    command.callback = _copy
    return command


def _copy(**values: Any) -> None:
    invocation, operation = current_invocation(), find("store.copy")
    with invocation.client() as client:
        steps = client.stream(operation.name, params_of(operation, values))
        if invocation.json:
            for step in steps:
                invocation.print_json(step)
            return
        pushed = refused = 0
        decoded_steps = (decoded(CopyProgress, step) for step in steps)
        for last in _shown(decoded_steps, bar=sys.stderr.isatty()):
            pushed, refused = last.pushed, last.refused
    refusals = f"; Firestore refused {refused}, see the log" if refused else ""
    invocation.print_line(f"copied {pushed} documents{refusals}")


def _shown(steps: Iterator[CopyProgress], *, bar: bool) -> Iterator[CopyProgress]:
    """The same steps, with a progress bar on stderr."""
    first = next(steps, None)
    if first is None:
        return
    yield first
    if not bar:
        yield from steps
        return
    with click.progressbar(length=first.waiting, label="copying", file=sys.stderr) as progress:
        for step in steps:
            # Documents that are added meanwhile are copied, too.
            progress.length = max(progress.length or 0, step.pushed + step.waiting)
            progress.update(step.pushed - progress.pos)
            yield step


def import_legacy_command() -> Command:
    """The command `store import-legacy`: it tells the cost and asks, except with --yes or --json."""
    command = command_of(find("store.import_legacy"))
    command.params.append(
        click.Option(["--yes", "-y"], is_flag=True, help="Do not ask for confirmation.")
    )
    command.callback = _import_legacy
    return command


def _import_legacy(yes: bool, **values: Any) -> None:
    invocation, operation = current_invocation(), find("store.import_legacy")
    params = params_of(operation, values)
    with invocation.client() as client:
        if invocation.json:
            for step in client.stream(operation.name, params):
                invocation.print_json(step)
            return
        counted = client.stream(operation.name, {**params, "dry_run": True})
        cost = [decoded(LegacyImportProgress, step) for step in counted][-1]
        invocation.print_line(
            f"messages: {cost.messages}, threads: {cost.threads}; this costs {cost.messages} reads of Firestore"
        )
        if values["dry_run"] or not cost.messages:
            return
        if not yes and not sys.stdin.isatty():
            raise BadInput(
                "the import needs confirmation and stdin is not a terminal",
                hint="wadctl store import-legacy --yes",
            )
        if not yes and not click.confirm("Import them?", err=True):
            raise click.exceptions.Exit(1)
        last = cost
        steps = (
            decoded(LegacyImportProgress, step) for step in client.stream(operation.name, params)
        )
        with click.progressbar(length=cost.messages, label="importing", file=sys.stderr) as bar:
            for last in steps:
                bar.update(last.read - bar.pos)
    invocation.print_line(
        f"imported {last.imported} messages; {last.known} were stored already, {last.skipped} are not legacy messages"
    )
