"""Copies of an account's damaged files that were set aside, and their retention.

They are beside the file, as NAME.damaged-STAMP (wad/state/account_dir.py sets them aside), and an operator decides
about them.  wad itself deletes only copies of spools whose rows were all recovered: it marks those, and keeps the
newest few.  It never deletes a session, or any other data that exists nowhere else.
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
"""The number of copies of completely recovered spools that are kept."""
KEPT_BYTES: Final = 512 << 20
"""Bytes of these copies; the newest is kept in any case."""

_LISTED: Final = 1000
"""The largest number of listed copies: a compromised worker may fill the directory."""

_COPY: Final = re.compile(
    r"(?:(?:spool|session)\.db|account\.json)\.damaged(?:-\d{8}T\d{6}Z)?(?:-\d{2,})?"
)
_MARK: Final = ".saved"
NOTE: Final = ".pending"
"""The suffix of the note beside a copy that is not recovered yet (wad/state/spool_replacement.py)."""
_PARTS: Final = ("", "-wal", "-shm", _MARK, NOTE)


class DamagedCopy(NamedTuple):
    """One copy; times in ms since 1970, sizes in bytes.  `saved`: everything in it is stored elsewhere, too."""

    path: Path
    since_ms: int
    size: int
    saved: bool

    @property
    def is_session(self) -> bool:
        """Whether it is the copy of a session file."""
        return self.path.name.startswith("session.db")


def copies(directory: Path) -> list[DamagedCopy]:
    """All copies in an account directory, the oldest first.  Raises OSError if they cannot be listed now."""
    with os.scandir(directory) as entries:
        names = [*islice((one.name for one in entries if is_copy(one.name)), _LISTED)]
    found = [copy for name in names if (copy := _copy(directory / name)) is not None]
    return sorted(found, key=lambda copy: (copy.since_ms, copy.path.name))


def is_copy(name: str) -> bool:
    """Whether this is the name of a file that wad has set aside."""
    return _COPY.fullmatch(name) is not None


def _copy(path: Path) -> DamagedCopy | None:
    """Read a copy's size and time; None if it was deleted meanwhile."""
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
    """Mark this spool as completely recovered, and delete the oldest such copies.  Raises StateUnwritable."""
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
    """Delete a copy on an operator's command.  Raises Conflict for a session, StateUnwritable."""
    if copy.is_session:
        raise Conflict(
            "wad never deletes a session, not even a damaged one",
            hint=f"if you are sure, move it away yourself: {copy.path}",
        )
    _remove(copy.path)


def _remove(path: Path) -> None:
    try:
        for part in _parts(path):
            part.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
