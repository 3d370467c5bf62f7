"""Whose the state is, and whether all in it is.

Every file of the state belongs to the user that the daemon runs as.  Somebody else who runs it there, root above all,
leaves files behind that the service cannot read: it then has no lease, or accounts that it cannot open.
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

_LOOKED_AT: Final = 5_000  # paths, at most
_NAMED: Final = 3  # in a sentence
_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_OWN_MOUNT: Final = "lost+found"  # the file system's, root's by nature


def user_name(uid: int) -> str:
    """The name of a user, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _chown(uid: int, paths: str) -> str:
    """The command that gives paths to a user, and to its group where it has a name."""
    name = user_name(uid)
    return f"sudo chown -R {name if name == str(uid) else name + ':'} {paths}"


def check_owner(
    directories: Iterable[Path], uid: int, restart: Callable[[str], str | None]
) -> None:
    """Raise where the daemon would run on another user's state: Denied, StateUnwritable.

    `restart`: what restarts the service that runs as this user, where there is one.
    """
    for directory in directories:
        owner = _owner(directory)
        if owner in (None, uid):
            continue
        assert owner is not None
        if owner == 0:
            # A directory that an administrator made: what matters is whether we may write there.
            if os.access(directory, os.W_OK | os.X_OK):
                continue
            me = user_name(uid)
            raise StateUnwritable(
                f"{directory} belongs to root, and {me} cannot write there",
                hint=_chown(uid, shlex.quote(str(directory))),
            )
        name = user_name(owner)
        if uid != 0 and not os.access(directory, os.W_OK | os.X_OK):
            raise StateUnwritable(
                f"{directory} belongs to {name}, and {user_name(uid)} cannot write there",
                hint=f"run it as {name} (sudo -u {name} wad run), or give --state-dir a directory of your own",
            )
        raise Denied(
            f"{directory} belongs to {name}, who could not read the files that {user_name(uid)} would leave there",
            hint=f"instead: {restart(name) or f'sudo -u {name} wad run'}",
        )


def _owner(directory: Path) -> int | None:
    try:
        return directory.stat().st_uid
    except OSError:
        return None  # there is none yet, or whatever opens it says why it cannot


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """Paths that belong to somebody else, and those among them that we cannot use."""

    paths: tuple[Path, ...]
    unusable: tuple[Path, ...]


def foreign(directories: Iterable[Path], uid: int) -> ForeignFile:
    """What in the state belongs to another user; the directories themselves only where we cannot write there.

    Raises OSError where that cannot be seen now, since this process has no handles left.
    """
    paths, unusable = [], []
    for name, is_top in islice(_all(directories), _LOOKED_AT):
        try:
            found = os.lstat(name)
        except OSError:
            continue  # it went while we looked, or its directory is one that we cannot enter and have named
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
    """Each directory and all below it, once, in the order in which they are given.

    As plain text: of hundreds of accounts these are thousands, and each Path would cost more than the look at it.
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
    """The directories and the other paths in it, sorted, as many as are looked at: a worker may fill its own.

    A directory that cannot be entered is named; one that cannot be looked into for now is no empty one.
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
    """What to say of it."""
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
            text = f"{what} {named}{more}; mend it with {mend}"
            yield Problem(
                code=code,
                text=text if code == "unusable_files" else f"files in the state {text}",
                figures=(len(paths),),
            )
