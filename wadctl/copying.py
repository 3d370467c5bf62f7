"""`store copy`: a progress bar on a terminal, with --json a line per step, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from wad.api.operation import find
from wad.api.views.store import CopyProgress
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
