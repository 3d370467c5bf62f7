"""The proof of the previous holder's death in the state directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from wad.store.predecessor import Predecessor


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """The lock of a state directory."""
    file = tmp_path / "state" / "wad.lock"
    file.parent.mkdir()
    file.touch()
    return file


def test_at_first_nothing_is_proven(lock: Path) -> None:
    """There was no holder."""
    assert Predecessor(lock).nonce == ""


def test_the_next_process_has_the_nonce_of_the_last(lock: Path) -> None:
    """Of the one that acquired last."""
    Predecessor(lock).remember("n1")
    second = Predecessor(lock)
    assert second.nonce == "n1"
    second.remember("n2")
    assert Predecessor(lock).nonce == "n2"


def test_a_copy_of_the_directory_proves_nothing(lock: Path, tmp_path: Path) -> None:
    """The original may run at this time."""
    Predecessor(lock).remember("n1")
    shutil.copytree(lock.parent, tmp_path / "copy")
    assert Predecessor(tmp_path / "copy" / "wad.lock").nonce == ""


def test_another_kernel_proves_nothing(lock: Path) -> None:
    """A cloned disk has the same numbers, but its machine has booted separately."""
    Predecessor(lock, kernel="k1").remember("n1")
    assert Predecessor(lock, kernel="k2").nonce == ""


@pytest.mark.parametrize("text", ["", "n1", "\x00", "n1 somewhere else"])
def test_a_damaged_note_proves_nothing(lock: Path, text: str) -> None:
    """It costs a ttl."""
    lock.with_name("lease-nonce").write_text(text)
    assert Predecessor(lock).nonce == ""


def test_a_note_that_cannot_be_written_blocks_nothing(lock: Path) -> None:
    """The lease is acquired all the same."""
    lock.with_name("lease-nonce").mkdir()
    Predecessor(lock).remember("n1")
    assert Predecessor(lock).nonce == ""
