"""`account backfill`: a bar on a terminal, a line of JSON for each conversation, and one sentence at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from wad.api.operation import find
from wadctl.commands import Command, command_of, given
from wadctl.session import session


def backfill_command() -> Command:
    """The command."""
    command = command_of(find("accounts.backfill"))
    command.callback = _backfill
    return command


def _backfill(**values: Any) -> None:
    now, operation = session(), find("accounts.backfill")
    last: Any = {"threads": 0, "messages": 0, "errors": 0, "error": ""}
    with now.client() as client:
        steps = iter(client.stream(operation.name, given(operation, values)))
        for last in _shown(steps, bar=not now.json and sys.stderr.isatty()):
            if now.json:
                now.document(last)
            elif last["error"] and not last["over"]:
                click.echo(f"{last['thread']}: {last['error']}", err=True)
    now.say(
        f"conversations asked for: {last['threads']}, new messages: {last['messages']}, errors: {last['errors']}"
    )


def _shown(steps: Iterator[Any], *, bar: bool) -> Iterator[Any]:
    """The same steps, with a bar on stderr while they come."""
    if not bar:
        yield from steps
        return
    with click.progressbar(length=1, label="asking", file=sys.stderr) as progress:
        for step in steps:
            progress.length = step["total"] or 1
            progress.update(step["threads"] - progress.pos)
            yield step
