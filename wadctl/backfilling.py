"""`account backfill`: a progress bar on a terminal, with --json a line per conversation, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from wad.api.operation import find
from wad.api.views.history import BackfillProgress
from wadctl.commands import Command, command_of, params_of
from wadctl.invocation import current_invocation
from wadctl.replies import decoded


def backfill_command() -> Command:
    """The command `account backfill`."""
    command = command_of(find("accounts.backfill"))
    command.callback = _backfill
    return command


def _backfill(**values: Any) -> None:
    invocation, operation = current_invocation(), find("accounts.backfill")
    threads = messages = errors = 0
    with invocation.client() as client:
        steps = client.stream(operation.name, params_of(operation, values))
        if invocation.json:
            for step in steps:
                invocation.print_json(step)
            return
        decoded_steps = (decoded(BackfillProgress, step) for step in steps)
        for last in _shown(decoded_steps, bar=sys.stderr.isatty()):
            threads, messages, errors = last.threads, last.messages, last.errors
            if last.error and not last.over:
                click.echo(f"{last.thread}: {last.error}", err=True)
    invocation.print_line(
        f"conversations requested: {threads}, new messages: {messages}, errors: {errors}"
    )


def _shown(steps: Iterator[BackfillProgress], *, bar: bool) -> Iterator[BackfillProgress]:
    """The same steps, with a progress bar on stderr."""
    if not bar:
        yield from steps
        return
    with click.progressbar(length=1, label="requesting", file=sys.stderr) as progress:
        for step in steps:
            progress.length = step.total or 1
            progress.update(step.threads - progress.pos)
            yield step
