"""Binds the HTTP port where systemd passes no listening socket."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from wad.core.errors import BadConfig, Conflict, WadError


async def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the first address of `host` that this machine has; port 0 is any free one.

    Raises Conflict when the port is in use, BadConfig when it cannot be bound otherwise.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return _bind_first(found)
    except OSError as error:
        raise _unbound(host, port, error) from error


def _bind_first(found: list[Any]) -> socket.socket:
    """Bind the first usable address; `localhost` may include ::1 on a machine without IPv6."""
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRNOTAVAIL:
                raise
        else:
            sock.setblocking(False)
            return sock
    raise OSError(errno.EADDRNOTAVAIL, "this machine has no such address")


def _unbound(host: str, port: int, error: OSError) -> WadError:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"port {port} on {host} is in use",
            hint=f"`ss -ltnp sport = :{port}` shows the process; change http.port, or set http.enabled to false",
        )
    if error.errno == errno.EACCES:
        return BadConfig(
            f"permission denied for port {port} on {host}: {error.strerror}",
            hint="set http.port to 1024 or more, or let systemd open it (wad-http.socket)",
        )
    return BadConfig(
        f"cannot listen for HTTP on {host} port {port}: {error.strerror}",
        hint="set http.address to an address of this machine",
    )
