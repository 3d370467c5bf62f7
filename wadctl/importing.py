"""`account import-baileys DIR`: reads the directory, with the user's own rights, and uploads its files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from wad.api.operation import find
from wad.api.views.importing import FilesReply
from wad.core.baileys import BATCH_LIMIT, FILE_LIMIT, FILES_LIMIT, SKIPPED, kind_of
from wad.core.errors import BadInput
from wadctl.client import Client
from wadctl.commands import Command, command_of, confirm, params_of
from wadctl.invocation import current_invocation

_DERIVED: Final = ("upload", "directory")  # parameters that wadctl derives from DIR
_BATCH_FILES: Final = 2000
_IMPORT_TIMEOUT: Final = 120.0  # seconds that the daemon may take longer than usual
_ARGUMENT: Final = ("DIR", "the session directory, with creds.json in it")


def import_command() -> Command:
    """The command `account import-baileys`: takes a DIR; a dry run asks for no confirmation."""
    operation = find("accounts.import_baileys")
    command = command_of(operation)
    command.params = [param for param in command.params if param.name not in _DERIVED]
    command.params.insert(
        0, click.Argument(["directory"], type=click.Path(path_type=Path), metavar="DIR")
    )
    command.arguments = (_ARGUMENT,)
    command.callback = _import
    return command


def _import(directory: Path, yes: bool, **values: Any) -> None:
    invocation, operation = current_invocation(), find("accounts.import_baileys")
    values["directory"] = directory.resolve().name
    if not values["dry_run"] and not yes:
        options = ("id", "name", "skip_damaged")
        confirm(operation, {"dir": directory, **{name: values[name] for name in options}})
    files = read_directory(directory)
    with invocation.client() as client:
        values["upload"] = _upload(client, files)
        reply = client.call(operation.name, params_of(operation, values), wait=_IMPORT_TIMEOUT)
    invocation.show(operation.name, reply)


def _upload(client: Client, files: list[tuple[str, bytes]]) -> str:
    """Upload the files to the daemon and return the upload's name."""
    upload = ""
    for batch in _batches(files):
        documents = [{"name": name, "data": data} for name, data in batch]
        params = {"files": documents, "upload": upload}
        upload = client.fetch(FilesReply, "accounts.import_files", params).upload
    return upload


def _batches(files: list[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for name, data in files:
        if batch and (size + len(data) > BATCH_LIMIT or len(batch) == _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append((name, data))
        size += len(data)
    if batch:
        yield batch


# --- reading the directory ------------------------------------------------------------------------------


def read_directory(directory: Path) -> list[tuple[str, bytes]]:
    """The files by name; those that wad does not need are listed without their bytes.

    Raises BadInput when something cannot be read, and when the directory changes meanwhile: the other backend still
    uses it then.
    """
    before = _snapshot(directory)
    if len(before) > FILES_LIMIT:
        raise BadInput(f"{directory} has {len(before)} files: it is not a session directory")
    if not before:
        raise BadInput(f"{directory} is empty", hint="name the directory with creds.json in it")
    files = [
        (_readable(name), b"" if kind_of(name) in SKIPPED else _read(directory / name))
        for name in sorted(before)
    ]
    if _snapshot(directory) != before:
        raise BadInput(
            f"{directory} changed while it was read: the other backend still runs",
            hint="stop it first, then run this again",
        )
    return files


def _readable(name: str) -> str:
    """The file name as valid UTF-8: invalid bytes are replaced."""
    return os.fsencode(name).decode(errors="replace")


def _snapshot(directory: Path) -> dict[str, tuple[int, int]]:
    """The modification time in ns and the size of each plain file, by name."""
    try:
        with os.scandir(directory) as entries:
            stats = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
    except OSError as error:
        raise _unreadable(directory, error) from error
    return {
        name: (found.st_mtime_ns, found.st_size)
        for name, found in stats.items()
        if stat.S_ISREG(found.st_mode)
    }


def _read(file: Path) -> bytes:
    try:
        # O_NOFOLLOW and O_NONBLOCK: the file may have been replaced by a link or a pipe.
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as opened:  # noqa: PTH123, it was opened with its flags
            data = opened.read(FILE_LIMIT + 1)
    except OSError as error:
        raise _unreadable(file, error) from error
    if len(data) > FILE_LIMIT:
        raise BadInput(f"{file} is larger than {FILE_LIMIT >> 20} MiB: it is not a session file")
    return data


def _unreadable(path: Path, error: OSError) -> BadInput:
    hint = "run this as root" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return BadInput(f"cannot read {path}: {error.strerror}", hint=hint)
