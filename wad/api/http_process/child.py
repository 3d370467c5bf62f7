"""Starts the HTTP process where systemd does not.

It gets two connected sockets and no secrets: of the daemon's environment only what a program needs to run.  This module
imports little, since it starts the process before the daemon's own imports, so that both start in parallel.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wad.core.errors import Unavailable
from wad.lib.module_command import module_command
from wad.systemd.activation import HTTP, HTTP_CALLS, Start

if TYPE_CHECKING:
    from wad.config.settings import Config

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class HttpChildOptions:
    """The options of the child: open listening sockets, else an address and a port (0: any free one).

    `heartbeat`: seconds between two heartbeats to the daemon.
    """

    address: str
    port: int
    sockets: Sequence[socket.socket] = ()
    level: str = "info"
    heartbeat: float = 5.0


@dataclass
class HttpChild:
    """A started process, and the daemon's ends of its connections."""

    options: HttpChildOptions
    process: subprocess.Popen[bytes]
    ends: list[socket.socket]

    def hang_up(self) -> None:
        """Close the connections that are not served yet."""
        while self.ends:
            self.ends.pop().close()

    def kill(self) -> None:
        """Kill the process unless it has ended."""
        self.hang_up()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def child_options(config: Config, start: Start) -> HttpChildOptions | None:
    """The options of the child; None if systemd starts the process, or HTTP is disabled.

    If systemd passed the HTTP port to the daemon, as older units do, the child listens on it.
    """
    listening = start.sockets(HTTP)
    if not config.http.enabled or (start.sockets(HTTP_CALLS) and not listening):
        return None
    return HttpChildOptions(config.http.address, config.http.port, listening, config.log.level)


def start_http(options: HttpChildOptions) -> HttpChild:
    """Start the HTTP process.  Raises Unavailable."""
    pairs = [socket.socketpair() for _ in range(2)]
    passed = [theirs.fileno() for _, theirs in pairs]
    listening = [sock.fileno() for sock in options.sockets]
    try:
        process = subprocess.Popen(
            module_command(
                "wad.http",
                f"--connected={','.join(map(str, passed))}",
                f"--listen={','.join(map(str, listening))}",
                f"--address={options.address}",
                f"--port={options.port}",
                f"--log-level={options.level}",
                f"--heartbeat={options.heartbeat}",
            ),
            pass_fds=(*passed, *listening),
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        for ours, _ in pairs:
            ours.close()
        raise Unavailable(f"the HTTP process cannot be started: {error.strerror}") from error
    finally:
        for _, theirs in pairs:
            theirs.close()
    for ours, _ in pairs:
        ours.setblocking(False)
    return HttpChild(options, process, [ours for ours, _ in pairs])
