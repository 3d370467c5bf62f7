"""`session export` and `session import`: the encrypted file is written and read here, never by the daemon."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from wad.api.operation import find
from wad.core.errors import BadInput
from wad.core.outgoing import PIECE_LIMIT
from wad.lib.files import sync_directory
from wadctl.commands import Command, ask, command_of
from wadctl.session import session

_LEAST: Final = 16  # bytes of a key file
_KEY: Final = click.Option(
    ["--key-file"],
    type=click.Path(path_type=Path),
    help="What this file holds is the secret, instead of a passphrase.",
)


def session_export_command() -> Command:
    """ACCOUNT and FILE, and a passphrase that is asked for, or a key file."""
    command = command_of(find("sessions.export"))
    command.params[1:2] = [click.Argument(["file"], type=click.Path(path_type=Path)), _KEY]
    command.arguments = (command.arguments[0], ("FILE", "the file to write; it must not exist"))
    command.callback = _export
    return command


def session_import_command() -> Command:
    """FILE."""
    command = command_of(find("sessions.import"))
    command.params = [
        click.Argument(["file"], type=click.Path(path_type=Path)),
        _KEY,
        *(param for param in command.params if param.name in ("yes", "json")),
    ]
    command.arguments = (("FILE", "what session export has written"),)
    command.callback = _import
    return command


def _export(account: str, file: Path, key_file: Path | None, yes: bool) -> None:
    now, operation = session(), find("sessions.export")
    if not yes:
        ask(operation, {"account": account, "file": file, "yes": yes})
    secret = _secret(key_file, new=True)
    with _created(file) as stream, now.client() as client:
        try:
            for part in client.stream(operation.name, {"account": account, "secret": secret}):
                stream.write(base64.b64decode(part["data"]))
            stream.flush()
            os.fsync(stream.fileno())
            sync_directory(file.parent)
            reply = client.call("sessions.give_up", {"account": account})
        except BaseException:
            # Whatever is in it is not the session that goes on.
            file.unlink(missing_ok=True)
            raise
    if now.json:
        now.document(reply | {"file": str(file)})
    now.say(
        f"the session of {reply['account']['id']} is in {file}\n"
        f"on the other machine: wadctl session import {file.name}"
    )


def _import(file: Path, key_file: Path | None) -> None:
    now = session()
    secret = _secret(key_file, new=False)
    try:
        sealed = file.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    if not sealed:
        raise BadInput(f"{file} is empty")
    upload = ""
    with now.client() as client:
        for begin in range(0, len(sealed), PIECE_LIMIT):
            piece = {
                "size": len(sealed),
                "offset": begin,
                "data": sealed[begin : begin + PIECE_LIMIT],
            }
            upload = client.call("sessions.put", piece | {"upload": upload})["upload"]
        reply = client.call("sessions.import", {"upload": upload, "secret": secret})
    now.show("sessions.import", reply)


def _created(file: Path) -> Any:
    """A new private file, opened.  Raises BadInput."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInput(f"cannot write {file}: {error.strerror}") from error
    return os.fdopen(fd, "wb")


def _secret(key_file: Path | None, *, new: bool) -> str:
    """The key file's content as text, or a passphrase that a person types.  Raises BadInput."""
    if key_file is not None:
        try:
            key = key_file.read_bytes()
        except OSError as error:
            raise BadInput(f"cannot read {key_file}: {error.strerror}") from error
        if len(key) < _LEAST:
            raise BadInput(f"{key_file} has less than {_LEAST} bytes")
        return base64.b64encode(key).decode()
    if not sys.stdin.isatty():
        raise BadInput(
            "there is no terminal to ask for a passphrase on", hint="give a --key-file FILE"
        )
    found: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return found
