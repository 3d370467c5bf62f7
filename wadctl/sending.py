"""The result of a sending command: with `--wait` the exit code shows whether the message was sent."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from wad.api.operation import Operation
from wad.api.views.outbox import EntryView, SendReply
from wad.core.errors import TimedOut, WadError
from wadctl.invocation import Invocation
from wadctl.replies import decoded


def takes_wait(operation: Operation) -> bool:
    """Whether the operation queues a message and can wait for its result."""
    return any(field.name == "wait" for field in msgspec.structs.fields(operation.request))


def show_result(invocation: Invocation, values: dict[str, Any], reply: object) -> None:
    """Show the queued message; with --wait, exit with an error unless it was sent.  Raises Exit."""
    invocation.show("messages.send", reply)
    entry = decoded(SendReply, reply).message
    if not values["wait"] or entry.state in ("sent", "delivered", "read", "played"):
        return
    error = _failure(entry)
    invocation.print_error(error)
    raise click.exceptions.Exit(error.exit_code)


def _failure(entry: EntryView) -> WadError:
    if entry.state == "failed":
        why = entry.error or "the message failed"
        return WadError.from_wire({"code": entry.error_code, "message": why})
    return TimedOut(f"the message is {entry.state}", hint="wadctl outbox shows its state")
