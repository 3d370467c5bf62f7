"""`account backfill`: a progress bar on a terminal, with --json a line per conversation, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from wad.api.operation import find
from wadctl.commands import Command, command_of, params_of
from wadctl.invocation import current_invocation


def backfill_command() -> Command:
    """The command `account backfill`."""
    command = command_of(find("accounts.backfill"))
    command.callback = _backfill
    return command


def _backfill(**values: Any) -> None:
    invocation, operation = current_invocation(), find("accounts.backfill")
    last: Any = {"threads": 0, "messages": 0, "errors": 0, "error": ""}
    with invocation.client() as client:
        steps = iter(client.stream(operation.name, params_of(operation, values)))
        for last in _shown(steps, bar=not invocation.json and sys.stderr.isatty()):
            if invocation.json:
                invocation.print_json(last)
            elif last["error"] and not last["over"]:
                click.echo(f"{last['thread']}: {last['error']}", err=True)
    invocation.print_line(
        f"conversations requested: {last['threads']}, new messages: {last['messages']}, errors: {last['errors']}"
    )


def _shown(steps: Iterator[Any], *, bar: bool) -> Iterator[Any]:
    """The same steps, with a progress bar on stderr."""
    if not bar:
        yield from steps
        return
    with click.progressbar(length=1, label="requesting", file=sys.stderr) as progress:
        for step in steps:
            progress.length = step["total"] or 1
            progress.update(step["threads"] - progress.pos)
            yield step
