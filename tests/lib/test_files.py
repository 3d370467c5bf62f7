"""Replacing a state file."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wad.core.errors import StateUnwritable
from wad.lib.files import swap_file, write_file

_WRITER = """
import sys
from pathlib import Path
from wad.lib.files import write_file
number = 0
while True:
    number += 1
    write_file(Path(sys.argv[1]), str(number).encode() * 500)
    print(number, flush=True)
"""


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """Killed at any moment: the file is one of the versions, and not older than what was acknowledged."""
    file = tmp_path / "file"
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(file)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(10):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            acknowledged = max(
                [acknowledged, *(int(line) for line in child.stdout.read().splitlines())]
            )
        text = file.read_text()
        assert re.fullmatch(r"(\d+?)\1{499}", text)
        assert int(text[: len(text) // 500]) >= acknowledged


def test_writing_syncs_file_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents are on the disk before the name points to them, and then the name is."""
    done: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(os.readlink(f"/proc/self/fd/{fd}")))
    write_file(tmp_path / "file", b"x")
    assert done == [str(tmp_path / "file.new"), str(tmp_path)]


@pytest.mark.parametrize("write", [write_file, swap_file])
def test_a_file_at_the_temporary_name_is_not_written_to(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    """Neither a link is followed, nor does a pipe hold the writer up; a directory is named."""
    other = tmp_path / "other"
    other.write_text("another's")
    (tmp_path / "file.new").symlink_to(other)
    write(tmp_path / "file", b"first")
    os.mkfifo(tmp_path / "file.new")
    write(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_text() == "second"
    assert other.read_text() == "another's"
    (tmp_path / "file.new").mkdir()
    with pytest.raises(StateUnwritable, match="directory"):
        write(tmp_path / "file", b"third")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_disk_that_refuses_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The error has a type and a hint."""
    file = tmp_path / "file"
    write_file(file, b"before")

    def refuse(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StateUnwritable, match=re.escape(os.strerror(number))) as raised:
        write_file(file, b"after")
    assert "df -h" in raised.value.hint
    assert file.read_bytes() == b"before"
