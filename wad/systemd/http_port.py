"""Another HTTP port than that of wad-http.socket, where the settings of wad.service name one.

wad-http has no network of its own: it serves what systemd listens on.  `http.address` and `http.port` (or PORT in a
drop-in of wad.service, as for the backend that wad replaces) are the daemon's to read, and the daemon opens no port any
more.  So root runs this before the daemon starts (ExecStartPre=+), with the daemon's environment: it makes of them a
socket unit, wad-http-port.socket, in /run.  Only root can write what it reads.

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
_PLACE: Final = Path("/run/systemd/system")
_ANY: Final = ("0.0.0.0", "::")
_PATIENCE: Final = 20.0  # seconds
_TEXT: Final = """\
# Made of the settings of wad.service (http.address, http.port, PORT) by `python -m wad.systemd.http_port`, at each
# start of it.  Who wants to name the port for systemd instead: systemctl edit wad-http.socket

[Unit]
Description=HTTP port of the WhatsApp account daemon, as its settings name it
PartOf={usual}

[Socket]
{streams}
Service=wad-http.service
NoDelay=yes
ReusePort=yes
FileDescriptorName=http
"""


class Address(NamedTuple):
    """What is listened on."""

    host: str
    port: int

    def __str__(self) -> str:
        """As ListenStream= takes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(shown: str) -> list[Address]:
    """The TCP addresses of a socket unit, as `systemctl show --property=Listen` prints them."""
    found = []
    for line in shown.splitlines():
        host, colon, port = line.removeprefix("Listen=").removesuffix(" (Stream)").rpartition(":")
        if colon and port.isdecimal():
            found.append(Address(host.strip("[]"), int(port)))
    return found


def wanted(loaded: LoadedConfig, listening: Sequence[Address]) -> list[Address]:
    """What has to be listened on beside these, as the settings say.

    A default is no wish, while anything listens: who gives wad-http.socket another address need not repeat it.
    """
    http = loaded.config.http
    wishes = [loaded.origins[key].source for key in ("http.address", "http.port")]
    if not http.enabled or not http.port or (listening and set(wishes) == {"default"}):
        return []
    found = [Address(host, http.port) for host in _resolved(http.address)]
    return [
        each
        for each in found
        if not any(one.port == each.port and one.host in (each.host, *_ANY) for one in listening)
    ]


def _resolved(host: str) -> list[str]:
    """Its IP addresses; ListenStream= takes no names."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def text(addresses: Iterable[Address]) -> str:
    """The socket unit."""
    streams = "\n".join(f"ListenStream={address}" for address in addresses)
    return _TEXT.format(usual=USUAL, streams=streams)


def main() -> None:
    """Make the unit, change it or take it away; nothing where it is right already."""
    loaded, _ = examine(None, os.environ)
    if loaded is None:
        return  # the daemon says what is wrong
    shown = _systemctl("show", "--property=LoadState,UnitFileState", USUAL)
    masked = "LoadState=masked" in shown or "LoadState=not-found" in shown
    listening = [] if masked else parse_listen(_systemctl("show", "--property=Listen", USUAL))
    place = _PLACE / UNIT
    addresses = wanted(loaded, listening)
    before = place.read_text() if place.exists() else ""
    after = text(addresses) if addresses else ""
    if before == after:
        return
    if after:
        place.write_text(after)
    else:
        _systemctl("stop", UNIT)
        place.unlink()
    _systemctl("daemon-reload")
    # A socket cannot be added to a service that runs; one that waits for its first connection is started by itself.
    _systemctl("try-restart", "--no-block", "wad-http.service")
    if after:
        _systemctl("start", "--no-block", UNIT)
        print(
            f"HTTP is served on {', '.join(map(str, addresses))}, too: see {place}", file=sys.stderr
        )


def _systemctl(*words: str) -> str:
    done = subprocess.run(
        ["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
    )  # fmt: skip
    return done.stdout


if __name__ == "__main__":
    with suppress(OSError, subprocess.TimeoutExpired):
        main()
