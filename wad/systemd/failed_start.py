"""The end of a process that systemd started and that cannot start up: it reports the reason, and releases its clients.

An error that a retry does not fix also ends the listening.  systemd holds the sockets, and would start us again for
each connection that waits in them: 242 times in 40 s with one probe.  A start limit of the unit cannot distinguish such
an error from an operator's ten restarts; this process can.  If it shuts a listening socket down, systemd fails that
socket unit and closes it (socket_dispatch_io() of systemd), so that clients get an error at once.

Other errors are retried by systemd, after a growing pause.  We wait here before we end, since systemd 252 has one fixed
pause only.  We end instead of retrying in this process: the next one reads the configuration again, and inherits
nothing from the failure.  The sockets stay open, and STATUS= shows the reason meanwhile.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from wad.core.errors import StartFailed, WadError
from wad.core.start_failure import LASTED, StartFailure, failure
from wad.core.wire import HELLO, Response, encode
from wad.systemd.activation import CONTROL, Start, started
from wad.systemd.notify import Notifier

log = logging.getLogger(__name__)

_QUEUE: Final = 1024  # clients that can wait in a socket's queue
_COUNT: Final = "failed-starts"
_FORGOTTEN: Final = 180.0  # seconds; longer than from one failed start to the next
_SLICE: Final = 5.0  # seconds between watchdog pings, in case the watchdog is armed already
_MORE: Final = 10.0  # seconds of timeout that are requested of systemd, beside the pause


class FailedStarts:
    """The count of failed starts in a row, in the runtime directory, which systemd keeps between two processes."""

    def __init__(self, directory: Path | None, wall: Callable[[], float] = time.time) -> None:
        self._file = None if directory is None else directory / _COUNT
        self._wall = wall

    def count(self, *, lasted: bool) -> int:
        """Count one more; return the number before it.  `lasted`: the process ran so long that the count restarts."""
        before = 0 if lasted else self._read()
        if self._file is not None:
            with suppress(OSError):
                self._file.write_text(f"{before + 1}\n")
        return before

    def _read(self) -> int:
        if self._file is None:
            return 0
        try:
            with self._file.open("rb") as file:
                age = self._wall() - os.fstat(file.fileno()).st_mtime
                text = file.read(20).strip()
        except OSError:
            return 0
        return int(text) if text.isdigit() and abs(age) < _FORGOTTEN else 0


def runtime_directory(environ: Mapping[str, str]) -> Path | None:
    """The runtime directory that systemd made for this unit (RuntimeDirectory=)."""
    named = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(named) if named else None


class Supervisor(NamedTuple):
    """The service manager: how it started us, and how to notify it."""

    start: Start
    notifier: Notifier


@contextmanager
def announced(
    environ: MutableMapping[str, str], pid: int, complain: Callable[[Exception], None]
) -> Iterator[Supervisor]:
    """Run the block as the main process of a unit; an error is printed and announced to systemd, then raised."""
    starts, began = FailedStarts(runtime_directory(environ)), time.monotonic()
    supervisor = Supervisor(started(environ, pid), Notifier(environ))
    try:
        yield supervisor
    except Exception as error:
        complain(error)
        announce(error, supervisor, starts, lasted=time.monotonic() - began)
        raise
    finally:
        supervisor.notifier.close()


def announce(
    error: Exception,
    supervisor: Supervisor,
    starts: FailedStarts,
    *,
    lasted: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Report to systemd, and to waiting clients, why this process ends; then wait for the pause before the next try.

    `lasted`: seconds that this process ran.  Does nothing if systemd did not start us.
    """
    start, notifier = supervisor
    if not start.invocation:
        return
    exit_code = error.exit_code if isinstance(error, WadError) else WadError.exit_code
    found = failure(reason_of(error), exit_code, starts.count(lasted=lasted >= LASTED))
    notifier.status(str(found))
    if found.pause is None:
        stop_listening(start, found)
    elif found.pause:
        log.error("wad %s", found)
        _wait(found.pause, notifier, sleep)


def reason_of(error: BaseException) -> str:
    """An error as one sentence; of an exception group the first error."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, WadError) else f"{type(error).__name__}: {error}"


def _wait(seconds: float, notifier: Notifier, sleep: Callable[[float], None]) -> None:
    """Wait, while systemd may still stop this process.  Raises SystemExit if it does."""
    notifier.extend_timeout(round((seconds + _MORE) * 1e6))
    try:
        while seconds > 0:
            notifier.watchdog()
            sleep(min(seconds, _SLICE))
            seconds -= _SLICE
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def stop_listening(start: Start, why: StartFailure) -> None:
    """Answer waiting clients of the control socket, and make systemd fail the units of all sockets that it passed."""
    for name, sockets in (start.passed or {}).items():
        for sock in sockets:
            if name == CONTROL:
                _answer(sock, why)
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _answer(listening: socket.socket, why: StartFailure) -> None:
    error = StartFailed(f"wad {why}", hint="fix the cause, then run: sudo systemctl restart wad")
    answer = encode(HELLO) + encode(Response(0, error, None))
    for _ in range(_QUEUE):
        try:
            client, _ = listening.accept()
        except OSError:
            return  # no further client waits
        with client, suppress(OSError):
            client.setblocking(False)
            client.send(answer)
