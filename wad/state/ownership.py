"""Ownership checks of the state directory.

Every file of the state must belong to the user that the daemon runs as.  If another user runs it there, above all root,
files remain that the service cannot read: then it has no lease, or accounts that it cannot open.
"""

from __future__ import annotations

import errno
import os
import pwd
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from wad.core.errors import Denied, StateUnwritable
from wad.core.problem import Problem

_LOOKED_AT: Final = 5_000  # paths that are checked at most
_NAMED: Final = 3  # in a sentence
_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_OWN_MOUNT: Final = "lost+found"  # of the file system, always root's


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _chown(uid: int, paths: str) -> str:
    """The command that changes the owner of paths to a user, and to its group if the user has a name."""
    name = user_name(uid)
    return f"sudo chown -R {name if name == str(uid) else name + ':'} {paths}"


def check_owner(
    directories: Iterable[Path], uid: int, restart: Callable[[str], str | None]
) -> None:
    """Refuse to run on another user's state.  Raises Denied, StateUnwritable.

    `restart`: returns the command that restarts the service that runs as a user, if there is one.
    """
    for directory in directories:
        owner = _owner(directory)
        if owner in (None, uid):
            continue
        assert owner is not None
        if owner == 0:
            # An administrator created the directory: it is enough that we may write there.
            if os.access(directory, os.W_OK | os.X_OK):
                continue
            me = user_name(uid)
            raise StateUnwritable(
                f"{directory} belongs to root, and {me} cannot write to it",
                hint=_chown(uid, shlex.quote(str(directory))),
            )
        name = user_name(owner)
        if uid != 0 and not os.access(directory, os.W_OK | os.X_OK):
            raise StateUnwritable(
                f"{directory} belongs to {name}, and {user_name(uid)} cannot write to it",
                hint=f"run wad as {name} (sudo -u {name} wad run), or set --state-dir to a directory of your own",
            )
        raise Denied(
            f"{directory} belongs to {name}, who could not read files that {user_name(uid)} creates there",
            hint=f"instead: {restart(name) or f'sudo -u {name} wad run'}",
        )


def _owner(directory: Path) -> int | None:
    try:
        return directory.stat().st_uid
    except OSError:
        return None  # it does not exist yet, or opening it reports the error


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """Paths that belong to another user, and those among them that we cannot use."""

    paths: tuple[Path, ...]
    unusable: tuple[Path, ...]


def foreign(directories: Iterable[Path], uid: int) -> ForeignFile:
    """Find paths in the state that belong to another user; the directories themselves only if we cannot write there.

    Raises OSError if the check is not possible now, since this process has no file descriptors left.
    """
    paths, unusable = [], []
    for name, is_top in islice(_all(directories), _LOOKED_AT):
        try:
            found = os.lstat(name)
        except OSError:
            continue  # deleted meanwhile, or in a directory that we cannot enter and have reported
        if found.st_uid == uid:
            continue
        path = Path(name)
        if path.name == _OWN_MOUNT:
            continue
        need = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
        if (usable := os.access(path, need)) and is_top:
            continue
        paths.append(path)
        if not usable:
            unusable.append(path)
    return ForeignFile(tuple(paths), tuple(unusable))


def _all(directories: Iterable[Path]) -> Iterator[tuple[str, bool]]:
    """Each directory and everything below it, once, in the given order.

    The paths are plain texts: hundreds of accounts have thousands, and each Path would cost more than its check.
    """
    done: set[str] = set()
    for top in directories:
        yield str(top), True
        waiting = [str(top)]
        while waiting:
            below, files = _listed(waiting.pop())
            below = [path for path in below if path not in done]
            for path in [*below, *files]:
                yield path, False
            waiting += reversed(below)
        done.add(str(top))


def _listed(directory: str) -> tuple[list[str], list[str]]:
    """The directories and the other paths in it, sorted, up to the limit: a compromised worker may fill its directory.

    Raises an OSError that says nothing about the directory, such as a lack of file descriptors; others are ignored.
    """
    below: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in islice(entries, _LOOKED_AT):
                (below if entry.is_dir(follow_symlinks=False) else files).append(entry.path)
    except OSError as error:
        if error.errno in _SHORTAGES:
            raise
    return sorted(below), sorted(files)


def problems(found: ForeignFile, directories: Sequence[Path], uid: int) -> Iterator[Problem]:
    """The problems for these findings."""
    tops = [
        each
        for each in directories
        if not any(each.is_relative_to(top) for top in directories if top != each)
    ]
    where = " ".join(shlex.quote(str(each)) for each in tops)
    mend = _chown(uid, where)
    for code, paths, what in (
        ("unusable_files", found.unusable, "wad cannot read or write"),
        ("foreign_files", found.paths, f"do not belong to {user_name(uid)}:"),
    ):
        if paths:
            named = ", ".join(str(path) for path in paths[:_NAMED])
            more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            text = f"{what} {named}{more}; fix it with: {mend}"
            yield Problem(
                code=code,
                text=text if code == "unusable_files" else f"files in the state {text}",
                figures=(len(paths),),
            )
