"""The daemon's log: one line per record on stderr, or one record with its fields in the journal.

The rule: **the log never contains a message's body**, a secret, or the key of a session.  A line names the account, the
operation, the error code (`extra={"account": ..., "operation": ..., "code": ...}`) and the message id; the text is in
the store.  Numbers and addresses are masked here, in every record, tracebacks included.  Libraries log at `info` or
higher only, since their debug lines may contain bodies.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Protocol

from wad.core.errors import BadInput
from wad.core.masking import scrubbed
from wad.systemd import journal

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_FIELDS: Final = ("account", "operation", "code")
_OURS: Final = ("wad", "wadctl")
_CONTROLS: Final = {
    number: f"\\x{number:02x}"
    for number in (*range(32), *range(127, 160))
    if chr(number) not in "\t\n"
} | {0x2028: "\\u2028", 0x2029: "\\u2029"}
"""Characters with which a stranger's push name could garble a terminal or forge a line."""


class Mask(logging.Filter):
    """A filter that masks the record itself: its text, its fields, its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: nothing is held back."""
        try:
            text = record.getMessage()
        except Exception as error:  # a filter's error would be raised in the caller that logs
            text = f"{record.msg} (its arguments do not fit: {type(error).__name__})"
        record.msg, record.args = scrubbed(text), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = scrubbed(record.exc_text)
        if record.stack_info:
            record.stack_info = scrubbed(record.stack_info)
        for name in _FIELDS:
            if hasattr(record, name):
                setattr(record, name, scrubbed(str(getattr(record, name))))
        return True


class LogFormatter(logging.Formatter):
    """A formatter of one line: for the journal the priority is first, elsewhere the time, in UTC, and the level."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line without its line end; a traceback follows the text, with ` | ` between its lines."""
        text = record.getMessage() + _fields_of(record)
        lines = (line.strip() for line in _whole(record, text).split("\n"))
        line = " | ".join(line for line in lines if line)
        return f"{self._prefix(record)}{record.name}: {line}"

    def _prefix(self, record: logging.LogRecord) -> str:
        if self._journal:
            return f"<{journal.priority(record.levelno)}>"
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return f"{time.replace('+00:00', 'Z')} {record.levelname} "


def _whole(record: logging.LogRecord, text: str) -> str:
    """The text, and its traceback on the lines below."""
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    parts = (text, record.exc_text, record.stack_info)
    return "\n".join(part for part in parts if part).translate(_CONTROLS)


def journal_fields(record: logging.LogRecord) -> dict[str, str]:
    """The fields of a record for the journal; the text is the same as on the line."""
    fields = {
        "MESSAGE": _whole(record, record.getMessage() + _fields_of(record)).rstrip(),
        "PRIORITY": str(journal.priority(record.levelno)),
        "SYSLOG_IDENTIFIER": "wad",
        "WAD_LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    given = {name: getattr(record, name, None) for name in _FIELDS}
    return fields | {f"WAD_{name.upper()}": str(value) for name, value in given.items() if value}


def _fields_of(record: logging.LogRecord) -> str:
    return "".join(_field(record, name) for name in _FIELDS)


def _field(record: logging.LogRecord, name: str) -> str:
    value = getattr(record, name, None)
    if value is None or value == "":
        return ""
    return f" {name}={value}" if re.fullmatch(r"\S+", str(value)) else f" {name}={str(value)!r}"


class LogOutput(Protocol):
    """An output for lines: a file, or a stream in front of one."""

    def write(self, text: str, /) -> object:
        """Write one or more whole lines."""

    def flush(self) -> object:
        """Write everything that is buffered."""

    def fileno(self) -> int:
        """The file descriptor of the final output.  Raises OSError if there is none."""


class _Stream(logging.StreamHandler[LogOutput]):
    """The handler for stderr.  A record that cannot be written is reported without its contents, which are unmasked."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, logging's name
        error = sys.exc_info()[1]
        try:
            self.stream.write(
                f"{record.name}: the log line of {record.pathname}:{record.lineno} failed:"
                f" {type(error).__name__}\n"
            )
        except (OSError, ValueError):
            return  # stderr is closed: no stream is left to report it on


def _is_journal(environ: Mapping[str, str], stream: LogOutput) -> bool:
    """Whether `stream` is the journal; the variable alone is no proof, since children in a terminal inherit it."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def install(
    level: str,
    environ: Mapping[str, str] | None = None,
    stream: LogOutput | None = None,
    path: str = journal.SOCKET,
) -> None:
    """Log to `stream` (stderr) from `level` up, and log uncaught errors, also in threads and destructors.

    If `stream` is the journal, records are sent with their fields; a record that the journal refuses becomes a line.
    asyncio logs failed tasks itself, through its own logger.  Raises BadInput for an unknown level.
    """
    stream = stream or sys.stderr
    handler: logging.Handler = _Stream(stream)
    to_journal = _is_journal(os.environ if environ is None else environ, stream)
    handler.setFormatter(LogFormatter(journal=to_journal))
    if to_journal:
        handler = journal.Journal(journal_fields, handler, path)
    handler.addFilter(Mask())
    set_level(level)
    logging.getLogger().handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def set_level(level: str) -> None:
    """Set the level: debug, info, warning or error.  Raises BadInput."""
    if level not in LEVELS:
        raise BadInput(f"unknown log level {level!r}", hint=f"use one of {', '.join(LEVELS)}")
    logging.getLogger().setLevel(max(LEVELS[level], logging.INFO))
    for name in _OURS:
        logging.getLogger(name).setLevel(LEVELS[level])


_log = logging.getLogger("wad")


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    _log.critical("ended by an uncaught error", exc_info=(kind, error, traceback))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return
    name = args.thread.name if args.thread else "a thread"
    _log.error(
        "%s ended by an uncaught error",
        name,
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
    )


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    error = args.exc_value
    _log.error(
        "%s (%s)",
        args.err_msg or "an error that cannot be raised",
        type(args.object).__qualname__,
        exc_info=(type(error), error, args.exc_traceback) if error else None,
    )
