"""What the exit code of `send --wait` says: whether the message left."""

from __future__ import annotations

from typing import Any

import click

from wad.core.errors import TimedOut, WadError
from wadctl.session import Session


def judge(session: Session, values: dict[str, Any], reply: Any) -> None:
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
