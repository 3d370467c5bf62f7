"""Records in the journal's own protocol, over a real datagram socket."""

from __future__ import annotations

import io
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from wad.systemd.journal import entry, priority
from wad.systemd.log import install


class Journald:
    """The journal's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def received(self) -> dict[str, str]:
        """The fields of one record."""
        data, fields = self.socket.recv(1 << 20), {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                size = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + size], data[9 + size :]
            fields[name.decode()] = value.decode()
        return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    """A journal."""
    made = Journald(tmp_path / "socket")
    yield made
    made.socket.close()


@pytest.fixture
def stderr(journald: Journald) -> Iterator[TextIO]:
    """A log whose stderr leads to the journal."""
    before = logging.getLogger().handlers[:]
    with tempfile.TemporaryFile("w+") as stream:
        stat = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        install("debug", environ, stream, str(journald.path))
        yield stream
    for handler in logging.getLogger().handlers:
        handler.close()
    logging.getLogger().handlers[:] = before


def fail(why: str) -> None:
    """Raise."""
    raise ValueError(why)


@pytest.mark.parametrize(
    ("level", "number"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 2),
        (logging.WARNING + 5, 4),
        (1, 6),
    ],
)
def test_priorities_are_those_of_syslog(level: int, number: int) -> None:
    """`journalctl -p warning` finds warnings and what is worse."""
    assert priority(level) == number


def test_a_value_with_a_line_end_carries_its_length() -> None:
    """Else the rest of a traceback would be read as fields."""
    assert entry({"A": "b", "C": "d\ne"}) == b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n"


def test_a_very_long_value_is_cut() -> None:
    """What does not fit a datagram would be refused as a whole."""
    assert len(entry({"A": "x" * 1_000_000})) < 100_000


def test_a_record_has_its_fields(journald: Journald, stderr: TextIO) -> None:
    """Account, operation and error code can be searched for."""
    extra = {"account": "a1b2", "operation": "messages.send", "code": "refused"}
    logging.getLogger("wad.test").warning("no", extra=extra)
    received = journald.received()
    wanted = {
        "MESSAGE": "no account=a1b2 operation=messages.send code=refused",
        "PRIORITY": "4", "SYSLOG_IDENTIFIER": "wad", "WAD_LOGGER": "wad.test",
        "WAD_ACCOUNT": "a1b2", "WAD_OPERATION": "messages.send", "WAD_CODE": "refused",
    }  # fmt: skip
    assert {name: received[name] for name in wanted} == wanted
    stderr.seek(0)
    assert stderr.read() == ""


def test_a_field_that_is_not_given_is_not_there(journald: Journald, stderr: TextIO) -> None:
    """An empty one would be found by a search for all records of accounts."""
    logging.getLogger("wad.test").info("up")
    assert not [name for name in journald.received() if name.startswith("WAD_ACC")]


def test_numbers_are_masked_in_every_field(journald: Journald, stderr: TextIO) -> None:
    """Text, fields and traceback: the log contains no phone number."""
    try:
        fail("15550000042 again")
    except ValueError:
        logging.getLogger("wad.test").exception(
            "to 15550000042@s.whatsapp.net", extra={"account": "+15550000042"}
        )
    received = journald.received()
    assert "ValueError" in received["MESSAGE"]
    assert not [name for name, value in received.items() if "15550000042" in value]


def test_a_traceback_is_one_record(journald: Journald, stderr: TextIO) -> None:
    """It is read as it was written."""
    try:
        fail("why")
    except ValueError:
        logging.getLogger("wad.test").exception("failed")
    message = journald.received()["MESSAGE"].split("\n")
    assert (message[0], message[-1]) == ("failed", "ValueError: why")


def test_a_journal_that_is_gone_loses_no_line(journald: Journald, stderr: TextIO) -> None:
    """The record is written to stderr, which systemd also reads."""
    journald.path.unlink()
    logging.getLogger("wad.test").error("up", extra={"account": "a1"})
    stderr.seek(0)
    assert stderr.read() == "<3>wad.test: up account=a1\n"


def test_without_a_journal_nothing_is_sent_to_it(journald: Journald) -> None:
    """A terminal stays a terminal."""
    before = logging.getLogger().handlers[:]
    stream = io.StringIO()
    install("info", {"JOURNAL_STREAM": "1:1"}, stream, str(journald.path))
    logging.getLogger("wad.test").error("up")
    logging.getLogger().handlers[:] = before
    journald.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        journald.socket.recv(100)
    assert "up" in stream.getvalue()
