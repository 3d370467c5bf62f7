"""What systemd gave us when it started us: sockets that listen already, and the name of this start.

Both are meant for the process that systemd started itself.  A shell in a session of systemd's, and what is started from
there, inherits the same variables; they say by process id whom they mean.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

FIRST: Final = 3
"""The number of the first socket that is passed (sd_listen_fds(3))."""
CONTROL: Final = "control"
HTTP: Final = "http"
HTTP_CALLS: Final = "http-rpc"
"""The names that the socket units give (FileDescriptorName=)."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of this process.

    `invocation`: systemd's name of it (`systemctl show -p InvocationID`); empty when systemd did not start us.
    """

    invocation: str = ""
    passed: Mapping[str, Sequence[socket.socket]] | None = None

    def sockets(self, name: str) -> Sequence[socket.socket]:
        """What a socket unit with this FileDescriptorName= passed."""
        return (self.passed or {}).get(name, ())


def passed_sockets(
    environ: MutableMapping[str, str], pid: int, first: int = FIRST
) -> dict[str, list[socket.socket]]:
    """The sockets that were passed to us, by name.

    The variables are taken out of `environ`, and no child inherits the sockets.
    """
    meant_for = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    if meant_for != str(pid) or not count.isdecimal():
        return found
    for offset in range(int(count)):
        os.set_inheritable(first + offset, False)
        sock = socket.socket(fileno=first + offset)
        sock.setblocking(False)
        name = names[offset] if offset < len(names) else ""
        found.setdefault(name, []).append(sock)
    return found


def invocation(environ: Mapping[str, str], pid: int) -> str:
    """systemd's name of this start; empty when it did not start this process itself."""
    return environ.get("INVOCATION_ID", "") if environ.get("SYSTEMD_EXEC_PID") == str(pid) else ""


def started(environ: MutableMapping[str, str], pid: int) -> Start:
    """How this process was started."""
    return Start(invocation(environ, pid), passed_sockets(environ, pid))
