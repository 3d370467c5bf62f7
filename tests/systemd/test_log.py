"""The form of a log line, and data that is never in one."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO

import pytest

from wad.core.errors import BadInput
from wad.systemd.log import LEVELS, install, set_level

log = logging.getLogger("wad.test")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Undo what `install` did to the process."""
    root = logging.getLogger()
    handlers, levels = (
        root.handlers[:],
        {name: _logger(name).level for name in ("", "wad", "wadctl")},
    )
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        _logger(name).setLevel(level)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)


def _logger(name: str) -> logging.Logger:
    return logging.getLogger(name or None)


@pytest.fixture
def stream() -> io.StringIO:
    """A log at `debug` that is not the journal."""
    stream = io.StringIO()
    install("debug", {}, stream)
    return stream


@pytest.fixture
def journal() -> Iterator[TextIO]:
    """A log whose stream is the one in JOURNAL_STREAM, without the journal's own socket."""
    with tempfile.TemporaryFile("w+") as stream:
        stat = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        install("debug", environ, stream, "/nonexistent")
        yield stream


def lines(stream: TextIO) -> list[str]:
    stream.seek(0)
    return stream.read().splitlines()


def fail() -> None:
    raise ValueError("no account 40712345678")


# --- the form of a line -----------------------------------------------------------------------


def test_line_begins_with_the_time_in_utc(stream: io.StringIO) -> None:
    """Outside of the journal: time, level, logger, text."""
    log.info("up")
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO wad\.test: up", line)


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 2),
        (logging.ERROR + 5, 3),
    ],
)
def test_line_in_the_journal_begins_with_its_priority(
    journal: TextIO, level: int, priority: int
) -> None:
    """The journal has a clock of its own and needs `<N>`."""
    log.log(level, "up")
    assert lines(journal) == [f"<{priority}>wad.test: up"]


def test_inherited_journal_stream_is_not_trusted() -> None:
    """In a terminal that systemd started, the variable names another stream than ours."""
    with tempfile.TemporaryFile("w+") as stream:
        install("info", {"JOURNAL_STREAM": "1:1"}, stream)
        log.info("up")
        assert not lines(stream)[0].startswith("<")


def test_fields_follow_the_text(stream: io.StringIO) -> None:
    """account, operation and code of `extra` are appended; one with blanks is quoted."""
    log.info("up", extra={"account": "shop", "operation": "send text", "code": "", "other": 1})
    assert lines(stream)[0].endswith(" up account=shop operation='send text'")


def test_traceback_stays_on_the_line(stream: io.StringIO) -> None:
    """One record is one line, whatever it holds."""
    try:
        fail()
    except ValueError:
        log.exception("failed\nbadly", stack_info=True)
    (line,) = lines(stream)
    assert "failed | badly | Traceback (most recent call last): | File " in line
    assert "ValueError: no account" in line


def test_control_characters_are_made_visible(stream: io.StringIO) -> None:
    """A stranger's name can neither colour the terminal nor forge a line."""
    log.info("name %s", "\x1b[31m\r\u2028\x85x")
    assert lines(stream)[0].endswith(r"name \x1b[31m\x0d\u2028\x85x")


# --- what is masked ---------------------------------------------------------------------------


def test_arguments_fields_and_tracebacks_are_masked(stream: io.StringIO) -> None:
    """Every part of a record passes the mask."""
    try:
        fail()
    except ValueError:
        log.exception("to %s", "40712345678", extra={"account": "wa-40712345678"}, stack_info=True)
    (line,) = lines(stream)
    assert "40712345678" not in line
    assert "to 4071****78 account=wa-4071****78 | Traceback" in line
    assert "ValueError: no account 4071****78 | Stack" in line


def test_the_name_of_a_file_that_was_set_aside_can_be_read(stream: io.StringIO) -> None:
    """The operator finds the file by the name in the log."""
    log.warning("set aside as %s", "spool.db.damaged-20261125T101010Z-02")
    assert lines(stream)[0].endswith(" as spool.db.damaged-20261125T101010Z-02")


def test_line_of_a_library_is_masked(stream: io.StringIO) -> None:
    """The mask sits at the exit, not at our loggers."""
    logging.getLogger("a.library").info("GET /x/40712345678")
    assert lines(stream)[0].endswith("a.library: GET /x/4071****78")


def test_arguments_that_do_not_fit_are_not_written(stream: io.StringIO) -> None:
    """A mistake in a log call neither raises nor shows what it was about."""
    log.info("%d", "40712345678")
    assert lines(stream)[0].endswith("%d (its arguments do not fit: TypeError)")


# --- levels -----------------------------------------------------------------------------------


def test_level_can_be_changed(stream: io.StringIO) -> None:
    """A reload makes the log more or less talkative."""
    set_level("warning")
    log.info("no")
    set_level("debug")
    log.debug("yes")
    assert [line[-3:] for line in lines(stream)] == ["yes"]


def test_debug_lines_of_libraries_stay_out(stream: io.StringIO) -> None:
    """They may contain message bodies."""
    logging.getLogger("uvicorn").debug("body")
    assert lines(stream) == []


def test_unknown_level_is_refused() -> None:
    """The message lists those that there are."""
    with pytest.raises(BadInput, match="unknown log level 'loud'"):
        set_level("loud")


def test_levels_are_those_of_the_configuration() -> None:
    """The log accepts every level that the configuration accepts."""
    from wad.config import SETTINGS

    check = SETTINGS["log.level"].check
    assert check
    assert all(check.holds(level) for level in LEVELS)
    assert check.text.endswith(", ".join(LEVELS))


def test_installing_twice_writes_a_line_once(stream: io.StringIO) -> None:
    """The second set-up replaces the first."""
    install("debug", {}, stream)
    log.info("up")
    assert len(lines(stream)) == 1


# --- uncaught exceptions ----------------------------------------------------------------------


def test_error_of_a_thread_is_logged(stream: io.StringIO) -> None:
    """A thread does not die in silence."""
    thread = threading.Thread(target=fail, name="handler")
    thread.start()
    thread.join()
    (line,) = lines(stream)
    assert "ERROR wad: handler ended by an uncaught error | Traceback" in line


def test_error_of_a_task_that_is_not_awaited_is_logged(stream: io.StringIO) -> None:
    """asyncio's own report uses the same log."""

    async def failing() -> None:
        fail()

    async def main() -> None:
        task = asyncio.create_task(failing())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(main())
    (line,) = lines(stream)
    assert "ERROR asyncio: Task exception was never retrieved | " in line
    assert "ValueError: no account 4071****78" in line


def test_error_in_a_destructor_is_logged(stream: io.StringIO) -> None:
    """What cannot be raised is at least written."""

    class Fails:
        def __del__(self) -> None:
            fail()

    Fails()
    gc.collect()
    (line,) = lines(stream)
    assert "ERROR wad: " in line
    assert "ValueError: no account 4071****78" in line


def test_warning_of_python_is_logged(stream: io.StringIO) -> None:
    """`warnings.warn` writes a line as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "WARNING py.warnings: " in lines(stream)[0]


def test_error_that_ends_the_process_is_logged() -> None:
    """The last line gives the reason."""
    script = (
        "from wad.systemd.log import install; install('info', {}); raise ValueError('40712345678')"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert " CRITICAL wad: ended by an uncaught error | Traceback" in line
    assert line.endswith("ValueError: 4071****78")


def test_a_closed_stderr_stops_nothing() -> None:
    """Logging into a closed pipe does not raise."""
    stream = io.StringIO()
    install("info", {}, stream)
    stream.close()
    log.info("up")
