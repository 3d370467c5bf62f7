"""What wad tells systemd: ready, status, the watchdog's food.  The only importer of sdnotify.

Outside systemd (no NOTIFY_SOCKET) everything here does nothing.  Two things of sdnotify are put right on the way: it
hides every error, and it can only send Latin-1 where systemd reads UTF-8.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from typing import Final

import sdnotify

log = logging.getLogger(__name__)

_PATIENCE: Final = 1.0
"""Seconds that a message may take.  Should systemd itself hang, the event loop must not hang with it."""


class Notifier:
    """Speaks to the service manager that started us.

    It takes NOTIFY_SOCKET out of `environ`, so that no child inherits it: the unit says NotifyAccess=main, and a
    child's message would be refused with a warning at best, taken for ours at worst.  WATCHDOG_USEC stays, it carries
    the process id that it is meant for.  A message that cannot be sent is logged, never raised.
    """

    def __init__(
        self, environ: MutableMapping[str, str], monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._monotonic_ns = monotonic_ns
        address = environ.pop("NOTIFY_SOCKET", "")
        self._systemd = _connect(address) if address else None

    def ready(self) -> None:
        """The start, or a reload, is complete."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """We are alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """A reload has begun; `ready()` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def extend_timeout(self, usec: int) -> None:
        """Starting or stopping may take so many microseconds more, from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={usec}")

    def close(self) -> None:
        """Let go of the socket; what is said later is not sent."""
        if self._systemd is not None:
            self._systemd.socket.close()
            self._systemd = None

    def _send(self, state: str) -> None:
        if self._systemd is None:
            return
        try:
            self._systemd.notify(state.encode().decode("latin-1"))
        except OSError as error:
            log.warning("systemd was not told %s: %s", state.partition("\n")[0], error)


def _connect(address: str) -> sdnotify.SystemdNotifier | None:
    # The library looks only into the real environment, and drops its socket unclosed when it cannot connect.
    before = os.environ.get("NOTIFY_SOCKET")
    os.environ["NOTIFY_SOCKET"] = address
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            systemd = sdnotify.SystemdNotifier(debug=True)
    except OSError as error:
        log.warning("systemd cannot be told anything, %s is out of reach: %s", address, error)
        return None
    finally:
        if before is None:
            del os.environ["NOTIFY_SOCKET"]
        else:
            os.environ["NOTIFY_SOCKET"] = before
    systemd.socket.settimeout(_PATIENCE)
    return systemd


def watchdog_interval(environ: Mapping[str, str], pid: int | None = None) -> float | None:
    """Seconds between two signs of life: half of what the unit's WatchdogSec allows; None if nobody watches.

    The variables may come from a service that started us; then WATCHDOG_PID is not our process id (`pid`).
    """
    own = str(os.getpid() if pid is None else pid)
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec or environ.get("WATCHDOG_PID", own) != own:
        return None
    if not usec.isdecimal() or int(usec) == 0:
        log.warning("WATCHDOG_USEC is no number of microseconds: %r", usec)
        return None
    return int(usec) / 2 / 1_000_000
