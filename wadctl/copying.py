"""`store copy`: a progress bar on a terminal, with --json a line per step, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from wad.api.operation import find
from wadctl.commands import Command, command_of, params_of
from wadctl.invocation import current_invocation


def copy_command() -> Command:
    """The command `store copy`."""
    command = command_of(find("store.copy"))
    command.callback = _copy
    return command


def _copy(**values: Any) -> None:
    invocation, operation = current_invocation(), find("store.copy")
    with invocation.client() as client:
        steps = client.stream(operation.name, params_of(operation, values))
        last: Any = {"pushed": 0, "refused": 0}
        for last in _shown(iter(steps), bar=not invocation.json and sys.stderr.isatty()):
            if invocation.json:
                invocation.print_json(last)
    refused = f"; Firestore refused {last['refused']}, see the log" if last["refused"] else ""
    invocation.print_line(f"copied {last['pushed']} documents{refused}")


def _shown(steps: Iterator[Any], *, bar: bool) -> Iterator[Any]:
    """The same steps, with a progress bar on stderr."""
    first = next(steps, None)
    if first is None:
        return
    yield first
    if not bar:
        yield from steps
        return
    with click.progressbar(length=first["waiting"], label="copying", file=sys.stderr) as progress:
        for step in steps:
            # Documents that are added meanwhile are copied, too.
            progress.length = max(progress.length or 0, step["pushed"] + step["waiting"])
            progress.update(step["pushed"] - progress.pos)
            yield step
