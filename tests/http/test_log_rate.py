"""The limit of log lines that strangers cause."""

from __future__ import annotations

import logging

import pytest

from wad.http.server.log_rate import Limited, limited

log = logging.getLogger("wad.http.test")


class Time:
    """A clock that does not advance by itself."""

    now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def test_a_flood_is_a_few_lines_and_a_number(caplog: pytest.LogCaptureFixture) -> None:
    """The next line that is written has the number of suppressed ones."""
    time = Time()
    with caplog.at_level(logging.INFO), limited(log, time):
        for number in range(1000):
            log.warning("line %d", number)
        time.now = 10
        log.warning("later")
    assert caplog.messages[:10] == [f"line {number}" for number in range(10)]
    assert caplog.messages[10:] == ["later (990 similar lines were suppressed)"]


def test_the_number_is_logged_when_no_line_follows(caplog: pytest.LogCaptureFixture) -> None:
    """Once, within the limit of lines."""
    time = Time()
    with caplog.at_level(logging.INFO), limited(log, time) as held:
        for _ in range(12):
            log.warning("line")
        held.report(log)
        assert len(caplog.messages) == 10
        time.now = 2
        held.report(log)
        held.report(log)
    assert caplog.messages[10:] == ["2 similar lines were suppressed"]


def test_the_limit_ends_with_the_block(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is left on the logger."""
    with caplog.at_level(logging.INFO):
        with limited(log, Time()):
            pass
        for _ in range(100):
            log.warning("line")
    assert len(caplog.messages) == 100


def test_the_rate_in_the_long_run() -> None:
    """A fixed number of lines per second, whatever arrives."""
    time = Time()
    held = Limited(time, burst=2, per_second=1)
    passed = 0
    for _ in range(100):
        time.now += 0.1
        passed += held.filter(logging.LogRecord("x", logging.INFO, "", 0, "line", (), None))
    assert passed in (11, 12)
