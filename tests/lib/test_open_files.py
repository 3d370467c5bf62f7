"""Open files: some are reserved for the daemon's interfaces."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from wad.lib import open_files


def limited(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """The number of files that may still be opened."""
    used = len(os.listdir("/proc/self/fd")) - 1
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (used + left, used + left))


def test_the_remaining_files_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that is opened is one less."""
    limited(monkeypatch, 50)
    before = open_files.left()
    with Path("/dev/null").open("rb"):
        assert open_files.left() == before - 1
    assert before == 50


@pytest.mark.parametrize(
    ("left", "enough"),
    [(open_files.RESERVED + 3, True), (open_files.RESERVED + 2, False), (0, False)],
)
def test_the_last_ones_are_kept(monkeypatch: pytest.MonkeyPatch, left: int, enough: bool) -> None:
    """Accounts get none of the reserve."""
    limited(monkeypatch, left)
    if enough:
        open_files.check_left(3)
        return
    with pytest.raises(OSError, match="open files") as caught:
        open_files.check_left(3)
    assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize("refusal", [ValueError("above the kernel's"), PermissionError(1, "no")])
def test_a_limit_that_cannot_be_raised_stays(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    """The unit's filter of system calls may refuse it."""

    def refused(kind: int, limits: tuple[int, int]) -> None:
        raise refusal

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 128))
    monkeypatch.setattr(resource, "setrlimit", refused)
    open_files.raise_limit()


def test_the_limit_is_raised_as_far_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft one to the hard one."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 128))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append(limits))
    open_files.raise_limit()
    assert asked == [(128, 128)]
