"""Socket activation: the listening sockets that systemd passes, and the invocation id of this start.

Both are for the process that systemd started itself.  A shell in a session of systemd, and its children, inherit the
same variables; they contain the process id that they are for.
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
"""The names in the socket units (FileDescriptorName=)."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of this process.

    `invocation`: systemd's id of it (`systemctl show -p InvocationID`); empty if systemd did not start us.
    """

    invocation: str = ""
    passed: Mapping[str, Sequence[socket.socket]] | None = None

    def sockets(self, name: str) -> Sequence[socket.socket]:
        """The sockets from a socket unit with this FileDescriptorName=."""
        return (self.passed or {}).get(name, ())


def passed_sockets(
    environ: MutableMapping[str, str], pid: int, first: int = FIRST
) -> dict[str, list[socket.socket]]:
    """The sockets that systemd passed to this process, by name.

    The variables are removed from `environ`, and no child inherits the sockets.
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
    """systemd's id of this start; empty if it did not start this process itself."""
    return environ.get("INVOCATION_ID", "") if environ.get("SYSTEMD_EXEC_PID") == str(pid) else ""


def started(environ: MutableMapping[str, str], pid: int) -> Start:
    """How this process was started."""
    return Start(invocation(environ, pid), passed_sockets(environ, pid))
