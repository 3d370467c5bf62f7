"""What every command of one call shares: where the daemon is, where output goes, and how it ends."""

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
from wadctl.screen import Screen, screen_of
from wadctl.unit import why_down


@dataclass
class Invocation:
    """One call of wadctl.  `json`: one JSON document (a stream: one a line) instead of prose."""

    socket: str
    timeout: float = 30.0
    json: bool = False
    screen: Screen = field(default_factory=lambda: screen_of(sys.stdout, os.environ))
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def client(self, timeout: float | None = None) -> Client:
        """A fresh client, not connected yet."""
        return Client(self.socket, timeout or self.timeout, why_down=why_down)

    def say(self, text: str) -> None:
        """A line for people; nothing with --json."""
        if not self.json:
            click.echo(text, color=self.screen.colour)

    def show(self, name: str, reply: Any) -> None:
        """The reply of an operation, as JSON or for people."""
        if self.json:
            self.document(reply)
        else:
            click.echo(self._rendered(name, reply), color=self.screen.colour)

    def _rendered(self, name: str, reply: Any) -> str:
        """Raises WadError where the daemon answers what this wadctl does not know how to show."""
        try:
            return render(name, self.screen, reply)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise WadError(
                f"the daemon's answer cannot be shown ({type(error).__name__}: {error})",
                hint="with --json it is printed as it is; `wadctl version` says whether both are of one package",
            ) from error

    def document(self, document: Any) -> None:
        """One JSON document on one line."""
        click.echo(msgspec.json.encode(document).decode())

    def failed(self, error: WadError, **more: Any) -> None:
        """Tell of an error: one sentence and a hint on stderr, and with --json a document on stdout."""
        if self.json:
            self.document({"ok": False, **more, "error": error.to_wire()})
        self.complain(error)

    def complain(self, error: WadError) -> None:
        """One sentence and a hint on stderr."""
        click.echo(f"wadctl: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)


def session() -> Invocation:
    """The session of the command that runs."""
    found: Invocation = click.get_current_context().find_root().obj
    return found


def socket_path(option: str | None, environ: Mapping[str, str]) -> str:
    """Where the daemon listens: the option, else WAD_SOCKET, else the place that belongs to WAD_STATE_DIR."""
    state_dir = Path(environ.get("WAD_STATE_DIR") or paths.STATE_DIR)
    return option or environ.get("WAD_SOCKET") or str(paths.runtime_dir(state_dir) / paths.SOCKET)
