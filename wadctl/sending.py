"""The result of a sending command: with `--wait` the exit code shows whether the message was sent."""

from __future__ import annotations

import sys
from typing import Any, Final

import click
import msgspec

from wad.api.operation import Operation
from wad.api.views.outbox import EntryView, SendReply
from wad.core.errors import TimedOut, WadError
from wadctl.client import Client
from wadctl.invocation import Invocation
from wadctl.message_tables import entry_line
from wadctl.replies import decoded

_STEP_S: Final = 2.0  # seconds between two lines of progress at least
_ARRIVED: Final = ("sent", "delivered", "read", "played")
_OPEN: Final = ("queued", "sending")


def takes_wait(operation: Operation) -> bool:
    """Whether the operation queues a message and can wait for its result."""
    fields = {field.name for field in msgspec.structs.fields(operation.request)}
    return {"wait", "client_id"} <= fields


def show_result(invocation: Invocation, values: dict[str, Any], reply: object) -> None:
    """Show the queued message; with --wait, follow it, and exit with an error unless it was sent.  Raises Exit."""
    queued = decoded(SendReply, reply)
    try:
        if values["wait"]:
            queued = _followed(invocation, queued, float(values["wait"]))
        invocation.show("messages.send", msgspec.to_builtins(queued))
        sys.stdout.flush()
    except KeyboardInterrupt:
        click.echo(f"\n{_stays(queued.message)}", err=True)
        raise
    except OSError:  # the output is full or closed; the caller reports that
        click.echo(f"wadctl: {_stays(queued.message)}", err=True)
        raise
    entry = queued.message
    if not values["wait"] or entry.state in _ARRIVED:
        return
    error = _failure(entry)
    if isinstance(error, TimedOut):
        click.echo(f"{error}; {error.hint}", err=True)
    else:
        invocation.print_error(error)
    raise click.exceptions.Exit(error.exit_code)


def _followed(invocation: Invocation, queued: SendReply, seconds: float) -> SendReply:
    """The reply with the message's state once it is settled, or after `seconds`; progress is shown on a terminal."""
    entry, progress = queued.message, sys.stderr.isatty() and not invocation.json
    shown, end = "", invocation.monotonic() + seconds
    with invocation.client() as client:
        while entry.state in _OPEN and (left := end - invocation.monotonic()) > 0:
            line = _progress(invocation, queued, entry)
            if progress and line != shown:
                shown = line
                click.echo(line, err=True)
            entry = _entry(client, entry.id, min(left, _STEP_S))
    return msgspec.structs.replace(queued, message=entry)


def _progress(invocation: Invocation, queued: SendReply, entry: EntryView) -> str:
    why = f" ({queued.waiting})" if queued.waiting and entry.state == "queued" else ""
    return f"{entry_line(invocation.screen, entry)}{why} ..."


def _entry(client: Client, ident: str, wait: float) -> EntryView:
    return client.fetch(EntryView, "outbox.show", {"id": ident, "wait": wait}, wait=wait)


def _stays(entry: EntryView) -> str:
    """What became of the message, for a command that ends early."""
    if entry.state in _OPEN:
        return (
            f"the message is queued as {entry.id}; wadctl outbox cancel {entry.id[:8]} cancels it"
        )
    return f"the message {entry.id} is {entry.state}"


def _failure(entry: EntryView) -> WadError:
    if entry.state == "failed":
        why = entry.error or "the message failed"
        return WadError.from_wire({"code": entry.error_code, "message": why})
    if entry.state in _OPEN:
        return TimedOut(
            "not sent yet, it stays queued", hint=f"wadctl outbox show {entry.id[:8]} --wait 60"
        )
    return TimedOut(f"the message is {entry.state}", hint=f"wadctl outbox show {entry.id[:8]}")
