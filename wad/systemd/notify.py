"""Notifications to systemd: readiness, status, watchdog pings.  The only importer of sdnotify.

Outside systemd (no NOTIFY_SOCKET) everything here does nothing.  Two faults of sdnotify are corrected: it hides every
error, and it can only send Latin-1 while systemd reads UTF-8.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, MutableMapping
from typing import Final

import sdnotify

log = logging.getLogger(__name__)

_TIMEOUT: Final = 1.0
"""Seconds that a message may take: if systemd itself hangs, the event loop must not."""


class Notifier:
    """The connection to the service manager that started us.

    It removes NOTIFY_SOCKET from `environ`, so that no child inherits it: the unit has NotifyAccess=main, and a child's
    message would be refused with a warning at best, taken for ours at worst.  WATCHDOG_USEC stays, since WATCHDOG_PID
    names its process.  A message that cannot be sent is logged, never raised.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self._systemd = _connect(address) if address else None

    def ready(self) -> None:
        """Report that the start, or a reload, is complete."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Set the line for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """Ping the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the shutdown has begun."""
        self._send("STOPPING=1")

    def extend_timeout(self, usec: int) -> None:
        """Extend the timeout for starting or stopping to `usec` microseconds from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={usec}")

    def close(self) -> None:
        """Close the socket; later messages are not sent."""
        if self._systemd is not None:
            self._systemd.socket.close()
            self._systemd = None

    def _send(self, state: str) -> None:
        if self._systemd is None:
            return
        try:
            self._systemd.notify(state.encode().decode("latin-1"))
        except OSError as error:
            log.warning("cannot send %s to systemd: %s", state.partition("\n")[0], error)


def _connect(address: str) -> sdnotify.SystemdNotifier | None:
    # The library reads the real environment only, and leaves its socket unclosed if it cannot connect.
    before = os.environ.get("NOTIFY_SOCKET")
    os.environ["NOTIFY_SOCKET"] = address
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            systemd = sdnotify.SystemdNotifier(debug=True)
    except OSError as error:
        log.warning("cannot notify systemd, %s is unreachable: %s", address, error)
        return None
    finally:
        if before is None:
            del os.environ["NOTIFY_SOCKET"]
        else:
            os.environ["NOTIFY_SOCKET"] = before
    systemd.socket.settimeout(_TIMEOUT)
    return systemd


def watchdog_interval(environ: Mapping[str, str], pid: int | None = None) -> float | None:
    """Seconds between two watchdog pings: half of the unit's WatchdogSec; None without a watchdog.

    The variables may be inherited from a service that started us; then WATCHDOG_PID is not our process id (`pid`).
    """
    own = str(os.getpid() if pid is None else pid)
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec or environ.get("WATCHDOG_PID", own) != own:
        return None
    if not usec.isdecimal() or int(usec) == 0:
        log.warning("WATCHDOG_USEC is not a number of microseconds: %r", usec)
        return None
    return int(usec) / 2 / 1_000_000
