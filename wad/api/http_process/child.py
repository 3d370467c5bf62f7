"""Starting the HTTP process where systemd starts none.

It gets two connected sockets and no secret: nothing of the daemon's environment but what a program needs to run.  This
module is light, as the process is started before the daemon imports what it needs itself: both come up together.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wad.core.errors import Unavailable
from wad.systemd.activation import HTTP, HTTP_CALLS, Start

if TYPE_CHECKING:
    from wad.config.settings import Config

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class HttpChildOptions:
    """Where it listens: on sockets that listen already, else on an address and a port (0: any free one).

    `heartbeat`: seconds between two of its heartbeats to the daemon.
    """

    address: str
    port: int
    sockets: Sequence[socket.socket] = ()
    level: str = "info"
    heartbeat: float = 5.0


@dataclass
class HttpChild:
    """A started process, and our ends of its connections."""

    wish: HttpChildOptions
    process: subprocess.Popen[bytes]
    ends: list[socket.socket]

    def hang_up(self) -> None:
        """Close what nobody answers on."""
        while self.ends:
            self.ends.pop().close()

    def kill(self) -> None:
        """End it, whatever it does, unless it has ended."""
        self.hang_up()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wish_of(config: Config, start: Start) -> HttpChildOptions | None:
    """What is wanted of a process of our own; None where systemd starts one, or there is to be none.

    Where systemd passed the HTTP port to the daemon, as units of before did, ours listens there.
    """
    listening = start.sockets(HTTP)
    if not config.http.enabled or (start.sockets(HTTP_CALLS) and not listening):
        return None
    return HttpChildOptions(config.http.address, config.http.port, listening, config.log.level)


def start_http(wish: HttpChildOptions) -> HttpChild:
    """Start it.  Raises Unavailable."""
    pairs = [socket.socketpair() for _ in range(2)]
    passed = [theirs.fileno() for _, theirs in pairs]
    listening = [sock.fileno() for sock in wish.sockets]
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "wad.http",
                f"--connected={','.join(map(str, passed))}",
                f"--listen={','.join(map(str, listening))}",
                f"--address={wish.address}",
                f"--port={wish.port}",
                f"--log-level={wish.level}",
                f"--heartbeat={wish.heartbeat}",
            ],
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
    return HttpChild(wish, process, [ours for ours, _ in pairs])
