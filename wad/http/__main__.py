"""`python -m wad.http`, and `wad http`: the HTTP process."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import click

from wad.core.errors import WadError
from wad.http.process import SOCKET, Options, run
from wad.lib.clock import SystemClock
from wad.lib.streams import run as run_command
from wad.systemd.failed_start import announced
from wad.systemd.log import install

_PR_SET_PDEATHSIG: Final = 1


def _sockets(_: click.Context, __: click.Parameter, text: str) -> list[socket.socket]:
    """The sockets with these file descriptors, which the parent process left open."""
    found = []
    for word in filter(None, text.split(",")):
        try:
            sock = socket.socket(fileno=int(word))
        except (ValueError, OSError) as error:
            raise click.BadParameter(f"{word} is not an open socket") from error
        sock.setblocking(False)
        os.set_inheritable(sock.fileno(), False)
        found.append(sock)
    return found


@click.command("http", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    default=SOCKET,
    show_default=True,
    help="The daemon's socket for HTTP processes.",
)
@click.option("--address", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=int, default=8080, show_default=True, help="The TCP port; 0 for any.")
@click.option("--log-level", default="info", show_default=True, help="debug, info, warning, error.")
@click.option("--connected", callback=_sockets, default="", hidden=True)
@click.option("--listen", callback=_sockets, default="", hidden=True)
@click.option("--heartbeat", type=float, default=5.0, hidden=True)
def http(
    path: Path,
    address: str,
    port: int,
    log_level: str,
    connected: list[socket.socket],
    listen: list[socket.socket],
    heartbeat: float,
) -> None:
    """Serve HTTP and call the daemon for each request; started by systemd or the daemon.

    It listens on the socket that systemd passes (wad-http.socket), else on --address and --port.
    """
    os.umask(0o077)
    if connected:
        _die_with_parent()
    install(log_level)
    options = Options(path, connected, listen, address, port, heartbeat)
    try:
        report = _reported_to_daemon if connected else _print_error
        with announced(os.environ, os.getpid(), report) as (start, notifier):
            asyncio.run(run(options, start, notifier, SystemClock()))
    except WadError as error:
        sys.exit(error.exit_code)


def _print_error(error: Exception) -> None:
    """Print an error and its hint; other exceptions are printed with a traceback elsewhere."""
    if isinstance(error, WadError):
        click.echo(f"wad http: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)


def _reported_to_daemon(error: Exception) -> None:
    """Do nothing: the daemon got the error and prints it, or has ended."""


def _die_with_parent() -> None:
    """Let the kernel kill this process when the daemon dies, even if it is stopped: the next daemon needs the port.

    If the daemon died before this call, its sockets are closed, which ends this process as well.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Run the HTTP process."""
    run_command("wad http", lambda: http(prog_name="wad http"))


if __name__ == "__main__":
    main()
