"""A failed start: whether it is retried, after which pause, and its status line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.errors import BadConfig, BadInput, WadError
from wad.core.start_failure import FINAL, StartFailure, failure, parse, pause_after

UNITS = Path(__file__).parent.parent.parent / "systemd"
SENTENCES = st.text(max_size=200).map(lambda text: " ".join(text.split()))


@pytest.mark.parametrize("name", ["wad.service", "wad-http.service"])
def test_mistakes_are_not_tried_again(name: str) -> None:
    """Only the exit codes in the unit's RestartPreventExitStatus=."""
    unit = (UNITS / name).read_text()
    lines = re.findall(r"^RestartPreventExitStatus=(.+)$", unit, re.MULTILINE)
    assert {int(code) for line in lines for code in line.split()} == FINAL
    assert {BadInput.exit_code, BadConfig.exit_code} == FINAL


@pytest.mark.parametrize("kind", WadError.by_code.values(), ids=WadError.by_code)
def test_each_error_is_final_or_has_a_pause(kind: type[WadError]) -> None:
    """By its exit code alone."""
    assert (failure("why", kind.exit_code, 3).pause is None) == (kind.exit_code in FINAL)


def test_pauses_grow_to_half_a_minute() -> None:
    """The first failure has none: what ended by chance is back at once."""
    assert [pause_after(count) for count in range(9)] == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert pause_after(10**9) == 30


@given(SENTENCES, st.none() | st.integers(0, 30))
def test_an_announcement_can_be_read(reason: str, pause: int | None) -> None:
    """wadctl parses reason and pause from the line, whatever the reason contains."""
    assert parse(str(StartFailure(reason, pause))) == StartFailure(reason, pause)


@given(st.text())
def test_a_line_is_one_line_and_short(reason: str) -> None:
    """systemd accepts a line of at most 4 kB."""
    line = str(StartFailure(reason * 100, 8))
    assert "\n" not in line
    assert len(line) < 2000


@pytest.mark.parametrize(
    "line", ["", "active, 3 of 3 accounts connected, backlog 0", "cannot start: it", "starting"]
)
def test_other_lines_announce_no_failure(line: str) -> None:
    """The status line of a running daemon is not a failure."""
    assert parse(line) is None
