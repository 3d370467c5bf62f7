"""The invocation of wadctl that a command belongs to: the daemon's socket, the output and its format."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import msgspec

from wad.core import paths
from wad.core.errors import WadError
from wadctl.client import Client
from wadctl.render import render
from wadctl.screen import Screen, ascii_controls, screen_of
from wadctl.unit import why_down


@dataclass
class Invocation:
    """One call of wadctl.  `json`: one JSON document (for a stream: one per line) instead of text."""

    socket: str
    timeout: float = 30.0
    json: bool = False
    screen: Screen = field(default_factory=lambda: screen_of(sys.stdout, os.environ))
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def client(self, timeout: float | None = None) -> Client:
        """A new client, not connected yet."""
        return Client(self.socket, timeout or self.timeout, why_down=why_down)

    def print_line(self, text: str) -> None:
        """Print a line of text; nothing with --json."""
        if not self.json:
            click.echo(text, color=self.screen.colour)

    def show(self, name: str, reply: object) -> None:
        """Print the reply of an operation: as text, or as the JSON that the daemon sent.

        Raises WadError if it has another form than the operation declares.
        """
        if self.json:
            self.print_json(reply)
        else:
            click.echo(render(name, self.screen, reply), color=self.screen.colour)

    def print_json(self, document: Any) -> None:
        """Print one JSON document on one line."""
        text = msgspec.json.encode(document).decode()
        click.echo(ascii_controls(text) if self.screen.terminal else text)

    def print_failure(self, error: WadError, **more: Any) -> None:
        """Print an error and its hint on stderr, and with --json a document on stdout."""
        if self.json:
            self.print_json({"ok": False, **more, "error": error.to_wire()})
        self.print_error(error)

    def print_error(self, error: WadError) -> None:
        """Print an error and its hint on stderr."""
        click.echo(f"wadctl: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)


def current_invocation() -> Invocation:
    """The invocation of the running command."""
    found: Invocation = click.get_current_context().find_root().obj
    return found


def socket_path(option: str | None, environ: Mapping[str, str]) -> str:
    """The path of the daemon's socket: the option, else WAD_SOCKET, else the one of WAD_STATE_DIR."""
    state_dir = Path(environ.get("WAD_STATE_DIR") or paths.STATE_DIR)
    return option or environ.get("WAD_SOCKET") or str(paths.runtime_dir(state_dir) / paths.SOCKET)
