"""A socket unit for the HTTP port in the settings of wad.service, if it differs from that of wad-http.socket.

wad-http has no network of its own: it serves the sockets on which systemd listens.  `http.address` and `http.port` (or
PORT in a drop-in of wad.service, as for the backend that wad replaces) are settings of the daemon, which opens no port
itself.  So root runs this program before the daemon starts (ExecStartPre=+), with the daemon's environment: it writes
a socket unit, wad-http-port.socket, to /run.  Only root can write the files that it reads.

    python -m wad.systemd.http_port
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from wad.config import LoadedConfig, examine

UNIT: Final = "wad-http-port.socket"
USUAL: Final = "wad-http.socket"
_UNIT_DIR: Final = Path("/run/systemd/system")
_ANY: Final = ("0.0.0.0", "::")
_TIMEOUT: Final = 20.0  # seconds
_TEXT: Final = """\
# Generated from the settings of wad.service (http.address, http.port, PORT) by `python -m wad.systemd.http_port`, at
# each start of the service.  To set the port in systemd instead: systemctl edit wad-http.socket

[Unit]
Description=HTTP port of the WhatsApp account daemon, from its settings
PartOf={usual}

[Socket]
{streams}
Service=wad-http.service
NoDelay=yes
ReusePort=yes
FileDescriptorName=http
"""


class Address(NamedTuple):
    """A TCP address to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        """The form for ListenStream=."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(shown: str) -> list[Address]:
    """Parse the TCP addresses of a socket unit in the output of `systemctl show --property=Listen`."""
    found = []
    for line in shown.splitlines():
        host, colon, port = line.removeprefix("Listen=").removesuffix(" (Stream)").rpartition(":")
        if colon and port.isdecimal():
            found.append(Address(host.strip("[]"), int(port)))
    return found


def wanted(loaded: LoadedConfig, listening: Sequence[Address]) -> list[Address]:
    """The addresses in the settings on which systemd does not listen yet.

    A default does not count while systemd listens on any address: an operator who changes the address of
    wad-http.socket need not repeat it in the settings.
    """
    http = loaded.config.http
    sources = [loaded.origins[key].source for key in ("http.address", "http.port")]
    if not http.enabled or not http.port or (listening and set(sources) == {"default"}):
        return []
    found = [Address(host, http.port) for host in _resolved(http.address)]
    return [
        each
        for each in found
        if not any(one.port == each.port and one.host in (each.host, *_ANY) for one in listening)
    ]


def _resolved(host: str) -> list[str]:
    """The IP addresses of a host; ListenStream= does not accept names."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def text(addresses: Iterable[Address]) -> str:
    """The text of the socket unit."""
    streams = "\n".join(f"ListenStream={address}" for address in addresses)
    return _TEXT.format(usual=USUAL, streams=streams)


def main() -> None:
    """Write, change or remove the unit; do nothing if it is up to date."""
    loaded, _ = examine(None, os.environ)
    if loaded is None:
        return  # the daemon reports the error
    shown = _systemctl("show", "--property=LoadState,UnitFileState", USUAL)
    masked = "LoadState=masked" in shown or "LoadState=not-found" in shown
    listening = [] if masked else parse_listen(_systemctl("show", "--property=Listen", USUAL))
    unit = _UNIT_DIR / UNIT
    addresses = wanted(loaded, listening)
    before = unit.read_text() if unit.exists() else ""
    after = text(addresses) if addresses else ""
    if before == after:
        return
    if after:
        unit.write_text(after)
    else:
        _systemctl("stop", UNIT)
        unit.unlink()
    _systemctl("daemon-reload")
    # A socket cannot be added to a running service; a service that waits for its first connection needs no restart.
    _systemctl("try-restart", "--no-block", "wad-http.service")
    if after:
        _systemctl("start", "--no-block", UNIT)
        print(
            f"HTTP is also served on {', '.join(map(str, addresses))}: see {unit}", file=sys.stderr
        )


def _systemctl(*args: str) -> str:
    done = subprocess.run(
        ["systemctl", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    with suppress(OSError, subprocess.TimeoutExpired):
        main()
