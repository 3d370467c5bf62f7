"""Small disks, for what happens when one is full: a tmpfs, mounted as root (through sudo where we are not)."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.missing import as_root


@contextmanager
def a_disk(at: Path, size: str) -> Iterator[Path]:
    """A disk of `size` (as mount says it: 100k, 200m) at a directory, ours to write while the block runs."""
    at.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=700,uid={os.geteuid()},gid={os.getegid()}"
    as_root("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(at))
    try:
        yield at
    finally:
        as_root("umount", "-l", str(at))


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """A disk on which no file can grow over `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(file: Path) -> None:
    """Write to a file of a small disk until not a page is left on it."""
    with file.open("ab", buffering=0) as filler:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
