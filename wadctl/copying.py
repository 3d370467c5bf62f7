"""`store copy`: a bar on a terminal, a line of JSON for each look, and one sentence at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from wad.api.operation import find
from wadctl.commands import Command, command_of, given
from wadctl.session import session


def copy_command() -> Command:
    """The command."""
    command = command_of(find("store.copy"))
    command.callback = _copy
    return command


def _copy(**values: Any) -> None:
    now, operation = session(), find("store.copy")
    with now.client() as client:
        steps = client.stream(operation.name, given(operation, values))
        last: Any = {"told": 0, "refused": 0}
        for last in _shown(iter(steps), bar=not now.json and sys.stderr.isatty()):
            if now.json:
                now.document(last)
    refused = f"; {last['refused']} are refused there, see the log" if last["refused"] else ""
    now.say(f"copied {last['told']} documents{refused}")


def _shown(steps: Iterator[Any], *, bar: bool) -> Iterator[Any]:
    """The same steps, with a bar on stderr while they come."""
    first = next(steps, None)
    if first is None:
        return
    yield first
    if not bar:
        yield from steps
        return
    with click.progressbar(length=first["waiting"], label="copying", file=sys.stderr) as progress:
        for step in steps:
            # What arrives meanwhile is copied, too.
            progress.length = max(progress.length or 0, step["told"] + step["waiting"])
            progress.update(step["told"] - progress.pos)
            yield step
