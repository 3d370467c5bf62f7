"""`session export` and `session import`: wadctl writes and reads the encrypted file, not the daemon."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from wad.api.operation import find
from wad.api.views.session import SESSION_PIECE, Arrived, GivenUp, Part
from wad.core.errors import BadInput
from wad.lib.files import sync_directory
from wadctl.commands import Command, command_of, confirm
from wadctl.invocation import current_invocation
from wadctl.replies import decoded

_MIN_KEY: Final = 16  # bytes of a key file
_KEY: Final = click.Option(
    ["--key-file"],
    type=click.Path(path_type=Path),
    help="Use the content of this file as the secret, instead of a passphrase.",
)


def session_export_command() -> Command:
    """The command `session export`: takes ACCOUNT and FILE; prompts for a passphrase without --key-file."""
    command = command_of(find("sessions.export"))
    command.params[1:2] = [click.Argument(["file"], type=click.Path(path_type=Path)), _KEY]
    command.arguments = (command.arguments[0], ("FILE", "the file to write; it must not exist"))
    command.callback = _export
    return command


def session_import_command() -> Command:
    """The command `session import`: takes FILE; prompts for a passphrase without --key-file."""
    command = command_of(find("sessions.import"))
    command.params = [
        click.Argument(["file"], type=click.Path(path_type=Path)),
        _KEY,
        *(param for param in command.params if param.name in ("yes", "json")),
    ]
    command.arguments = (("FILE", "the file that `session export` wrote"),)
    command.callback = _import
    return command


def _export(account: str, file: Path, key_file: Path | None, yes: bool) -> None:
    invocation, operation = current_invocation(), find("sessions.export")
    if not yes:
        confirm(operation, {"account": account, "file": file, "yes": yes})
    secret = _secret(key_file, new=True)
    with _created(file) as stream, invocation.client() as client:
        try:
            for part in client.stream(operation.name, {"account": account, "secret": secret}):
                stream.write(base64.b64decode(decoded(Part, part).data))
            stream.flush()
            os.fsync(stream.fileno())
            sync_directory(file.parent)
            reply = client.call("sessions.give_up", {"account": account})
        except BaseException:
            # The account keeps its session here, so the file must not be used.
            file.unlink(missing_ok=True)
            raise
    if invocation.json:
        invocation.print_json(reply | {"file": str(file)})
        return
    invocation.print_line(
        f"the session of {decoded(GivenUp, reply).account.id} is in {file}\n"
        f"on the other machine run: wadctl session import {file.name}"
    )


def _import(file: Path, key_file: Path | None) -> None:
    invocation = current_invocation()
    secret = _secret(key_file, new=False)
    try:
        sealed = file.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    if not sealed:
        raise BadInput(f"{file} is empty")
    upload = ""
    with invocation.client() as client:
        for begin in range(0, len(sealed), SESSION_PIECE):
            piece = {
                "size": len(sealed),
                "offset": begin,
                "data": sealed[begin : begin + SESSION_PIECE],
            }
            upload = client.fetch(Arrived, "sessions.put", piece | {"upload": upload}).upload
        reply = client.call("sessions.import", {"upload": upload, "secret": secret})
    invocation.show("sessions.import", reply)


def _created(file: Path) -> Any:
    """Create the file with mode 0600 and open it.  Raises BadInput."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}") from error
    return os.fdopen(fd, "wb")


def _secret(key_file: Path | None, *, new: bool) -> str:
    """The key file's content in base64, or a passphrase from the terminal.  Raises BadInput."""
    if key_file is not None:
        try:
            key = key_file.read_bytes()
        except OSError as error:
            raise BadInput(f"cannot read {key_file}: {error.strerror}") from error
        if len(key) < _MIN_KEY:
            raise BadInput(f"{key_file} has fewer than {_MIN_KEY} bytes")
        return base64.b64encode(key).decode()
    if not sys.stdin.isatty():
        raise BadInput(
            "a passphrase is needed and stdin is not a terminal", hint="use --key-file FILE"
        )
    found: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return found
