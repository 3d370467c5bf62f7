"""What the exit code of a sending command with `--wait` says: whether the message left."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from wad.api.operation import Operation
from wad.core.errors import TimedOut, WadError
from wadctl.session import Invocation


def takes_wait(operation: Operation) -> bool:
    """Whether it queues a message, for whose fate one can wait."""
    return any(field.name == "wait" for field in msgspec.structs.fields(operation.request))


def judge(session: Invocation, values: dict[str, Any], reply: Any) -> None:
    """Show the message; who waited for it also learns its fate from the exit code.  Raises Exit."""
    session.show("messages.send", reply)
    entry = reply["message"]
    if not values["wait"] or entry["state"] in ("sent", "delivered", "read", "played"):
        return
    error = _failure(entry)
    session.complain(error)
    raise click.exceptions.Exit(error.exit_code)


def _failure(entry: Any) -> WadError:
    if entry["state"] == "failed":
        why = entry["error"] or "the message failed"
        return WadError.from_wire({"code": entry["error_code"], "message": why})
    return TimedOut(
        f"the message is {entry['state']}", hint="wadctl outbox shows what becomes of it"
    )
