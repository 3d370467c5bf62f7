"""A log handler for systemd's journal, which sends records with their fields in its native protocol.

So `journalctl -u wad WAD_ACCOUNT=a1b2 -p warning` filters by account, and a traceback stays one record.  Protocol:
systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Final

SOCKET: Final = "/run/systemd/journal/socket"
PRIORITIES: Final[Mapping[int, int]] = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_LONGEST: Final = 64 << 10
"""Bytes of a text; for longer ones the journal would require a file instead of a datagram."""


def priority(level: int) -> int:
    """The syslog priority of a log level."""
    return PRIORITIES.get(level // 10 * 10, PRIORITIES[logging.INFO])


def entry(fields: Mapping[str, str]) -> bytes:
    """One record as a datagram.  A value that contains a line end is preceded by its length."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")[:_LONGEST]
        if b"\n" in data:
            parts += [name.encode(), b"\n", len(data).to_bytes(8, "little"), data, b"\n"]
        else:
            parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


class Journal(logging.Handler):
    """A log handler that sends records to the journal; a record that the journal refuses is passed to `otherwise`."""

    def __init__(
        self,
        fields_of: Callable[[logging.LogRecord], Mapping[str, str]],
        otherwise: logging.Handler,
        path: str = SOCKET,
    ) -> None:
        super().__init__()
        self._fields_of = fields_of
        self._otherwise = otherwise
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # a journal that hangs must not hang the daemon

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            self._socket.sendto(entry(self._fields_of(record)), self._path)
        except OSError:
            self._otherwise.handle(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()
