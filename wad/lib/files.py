"""State files, written whole or not at all, even through a power cut."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from wad.core.errors import Conflict, InvalidData, StateUnwritable

_DAMAGED: Final = ".damaged-"
_COPIES: Final = 5  # of one damaged file
_NO_FILE: Final = (
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
)  # a directory, links in a circle, a socket


def write_file(file: Path, data: bytes) -> None:
    """Replace a private file (mode 0600) by rename, synced before and after.  Raises StateUnwritable."""
    temporary = file.with_name(file.name + ".new")
    try:
        temporary.unlink(missing_ok=True)  # a link would lead elsewhere, a pipe would block
        write_synced(temporary, data, os.O_EXCL)
        temporary.replace(file)
        sync_directory(file.parent)
    except OSError as error:
        raise unwritable(file, error) from error


def swap_file(file: Path, data: bytes) -> None:
    """write_file() without syncing: whole or not at all while the machine runs; a power cut may leave the old file.

    For data that is worthless after a power cut, and must not wait for a busy disk.  Raises StateUnwritable.
    """
    temporary = file.with_name(file.name + ".new")
    try:
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
        temporary.replace(file)
    except OSError as error:
        raise unwritable(file, error) from error


def create_file(file: Path, data: bytes) -> None:
    """Write a new private file, synced.  Raises Conflict if the file exists, StateUnwritable."""
    try:
        write_synced(file, data, os.O_EXCL)
        sync_directory(file.parent)
    except FileExistsError as error:
        raise Conflict(f"{file} already exists", hint="choose another file name") from error
    except OSError as error:
        raise unwritable(file, error) from error


def read_file(file: Path, most: int) -> bytes:
    """Read a whole file of at most `most` bytes.  Raises OSError, InvalidData if it is larger or not a regular file."""
    try:
        with open(file, "rb", opener=_without_waiting) as stream:
            if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                raise InvalidData(f"{file} is not a regular file, but a pipe")
            data = stream.read(most + 1)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise InvalidData(f"{file} is not a regular file: {error.strerror}") from error
        raise
    if len(data) > most:
        raise InvalidData(f"{file} is larger than {most} bytes")
    return data


def _without_waiting(file: str, flags: int) -> int:
    """Open without blocking: opening a pipe without a writer would block for ever."""
    return os.open(file, flags | os.O_NONBLOCK | os.O_NOCTTY)


def set_aside(file: Path, stamp: str) -> Path:
    """Rename a damaged file to NAME.damaged-STAMP; return its new path.

    The newest copies stay for the operator; older ones are deleted.  Raises StateUnwritable.
    """
    aside = file.with_name(f"{file.name}{_DAMAGED}{stamp}")
    try:
        file.replace(aside)
        for old in damaged_copies(file)[:-_COPIES]:
            _remove(old)
        sync_directory(file.parent)
    except OSError as error:
        raise unwritable(file, error) from error
    return aside


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def damaged_copies(file: Path) -> list[Path]:
    """The copies of this file that were set aside, the oldest first."""
    return sorted(file.parent.glob(glob.escape(file.name + _DAMAGED) + "*"))


def write_synced(file: Path, data: bytes, flags: int = os.O_TRUNC) -> None:
    """Write a private file in place, and sync it.  Raises OSError."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | flags | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        give_to_owner(fd, file.parent)
        stream.write(data)
        stream.flush()
        os.fsync(fd)


def give_to_owner(fd: int, directory: Path) -> None:
    """Give a file that root created to the owner of its directory, who has to read it.  Raises OSError."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)


def sync_file(file: Path) -> None:
    """Sync a file's contents, so that they survive a power cut.  Raises OSError."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that renames and new files in it survive a power cut.  Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unwritable(path: Path, error: OSError | str) -> StateUnwritable:
    """The error for a path that is not writable; `error` may be a text of another library."""
    why = error if isinstance(error, str) else error.strerror or str(error)
    return StateUnwritable(
        f"cannot write {path}: {why}",
        hint=f"check its owner, its mode and the free space: ls -ld {path.parent} {path}; df -h {path.parent}",
    )
