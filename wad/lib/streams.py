"""Standard input, output and error of a command, which may be closed, full or disconnected."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Final

CANNOT_WRITE: Final = 74  # EX_IOERR of sysexits.h
BROKEN_PIPE: Final = 141  # as shells report a process that SIGPIPE has ended

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EROFS)


def open_streams() -> None:
    """Open closed streams on /dev/null: else the next file or socket would get their number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def run(name: str, command: Callable[[], object]) -> None:
    """Run a command and flush its output; a failed write gives one line on stderr and an exit code of its own."""
    open_streams()
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave(BROKEN_PIPE)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = f" {error.filename}" if error.filename else ""
        _say(f"{name}: cannot write{where}: {error.strerror}")
        _leave(CANNOT_WRITE)


def drop_output() -> None:
    """Send the rest of the output to /dev/null, since its reader has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say(text: str) -> None:
    try:
        os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return  # no stream is left to report it on


def _leave(code: int) -> None:
    drop_output()
    sys.exit(code)
