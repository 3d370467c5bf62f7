"""Copies of an account's damaged files that were set aside: what they are, and how many of them stay.

They lie beside the file, as NAME.damaged-STAMP (wad/state/account_dir.py sets them aside), and an operator decides
about them.  wad
itself removes only copies of spools whose every row was saved: it marks those, and keeps the newest few.  A session is
never removed by it, nor anything else that is nowhere else.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from wad.core.errors import Conflict
from wad.lib.files import sync_directory, unwritable, write_file

KEPT: Final = 2
"""Copies of spools that stay although every row of them was saved."""
KEPT_BYTES: Final = 512 << 20
"""Bytes of these; the newest stays in any case."""

_LISTED: Final = 1000
"""Copies that are listed: the directory is the worker's, who may fill it."""

_COPY: Final = re.compile(
    r"(?:(?:spool|session)\.db|account\.json)\.damaged(?:-\d{8}T\d{6}Z)?(?:-\d{2,})?"
)
_MARK: Final = ".saved"
NOTE: Final = ".pending"
"""Of the note beside a copy that is still to be gone through (wad/state/spool_replacement.py)."""
_PARTS: Final = ("", "-wal", "-shm", _MARK, NOTE)


class DamagedCopy(NamedTuple):
    """One copy; times in ms since 1970, sizes in bytes.  `saved`: nothing is in it that is not elsewhere, too."""

    path: Path
    since_ms: int
    size: int
    saved: bool

    @property
    def is_session(self) -> bool:
        """Whether it holds, or held, a session's keys."""
        return self.path.name.startswith("session.db")


def copies(directory: Path) -> list[DamagedCopy]:
    """All copies in an account's directory, the oldest first.  Raises OSError where they cannot be listed now."""
    with os.scandir(directory) as entries:
        names = [*islice((one.name for one in entries if is_copy(one.name)), _LISTED)]
    found = [copy for name in names if (copy := _copy(directory / name)) is not None]
    return sorted(found, key=lambda copy: (copy.since_ms, copy.path.name))


def is_copy(name: str) -> bool:
    """Whether wad sets files aside under such a name."""
    return _COPY.fullmatch(name) is not None


def _copy(path: Path) -> DamagedCopy | None:
    """None where it went just now."""
    try:
        parts = [part.lstat() for part in _parts(path) if os.path.lexists(part)]
        since_ms = int(path.lstat().st_ctime * 1000)
    except FileNotFoundError:
        return None
    return DamagedCopy(
        path, since_ms, sum(part.st_size for part in parts), os.path.lexists(_mark(path))
    )


def _parts(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _PARTS]


def _mark(path: Path) -> Path:
    return path.with_name(path.name + _MARK)


def mark_saved(path: Path) -> None:
    """Every row of this spool was saved; the oldest such copies go.  Raises StateUnwritable."""
    write_file(_mark(path), b"")
    left, room = KEPT, KEPT_BYTES
    try:
        known = copies(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    for number, copy in enumerate(copy for copy in reversed(known) if copy.saved):
        left, room = left - 1, room - copy.size
        if number and (left < 0 or room < 0):
            _remove(copy.path)


def remove(copy: DamagedCopy) -> None:
    """Delete a copy, as an operator wants.  Raises Conflict for a session, StateUnwritable."""
    if copy.is_session:
        raise Conflict(
            "wad deletes no session, also no damaged one",
            hint=f"move it away yourself when you are sure: {copy.path}",
        )
    _remove(copy.path)


def _remove(path: Path) -> None:
    try:
        for part in _parts(path):
            part.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
