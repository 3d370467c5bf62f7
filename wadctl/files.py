"""`send-file`: the file is read here, never by the daemon, and goes to it piece by piece."""

from __future__ import annotations

import mimetypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import click

from wad.api.operation import find
from wad.core.errors import BadInput
from wad.core.outgoing import PIECE_LIMIT, AttachmentKind, check_size
from wadctl.client import Client
from wadctl.commands import Command, command_of, given
from wadctl.screen import plain
from wadctl.sending import judge
from wadctl.session import Invocation, session

_LARGE: Final = 4 << 20  # bytes from which on a person wants to see progress
_TAKEN: Final = ("sha256", "kind", "mimetype")  # what the daemon is told, but nobody has to type
_KINDS: Final = {
    "image/jpeg": AttachmentKind.IMAGE,
    "image/png": AttachmentKind.IMAGE,
    "image/webp": AttachmentKind.STICKER,
    "video/mp4": AttachmentKind.VIDEO,
    "video/3gpp": AttachmentKind.VIDEO,
}
_VOICE: Final = "audio/ogg; codecs=opus"  # the only sound that the apps show as a voice note

_HELP: Final = """\
Send a file: an image, video, sound, voice note, document or sticker.

What it is sent as is guessed from its name: jpg and png are images, mp4 and 3gp videos, sound is audio, webp is a
sticker, everything else a document. A voice note has to be asked for; it is Opus in Ogg."""


def send_file_command() -> Command:
    """The command: a FILE instead of what the operation wants to know about one."""
    operation = find("messages.send_file")
    command = command_of(operation)
    command.params = [param for param in command.params if param.name not in _TAKEN]
    command.params[2:2] = [
        click.Argument(["file"], type=click.Path(path_type=Path)),
        click.Option(
            ["--kind"],
            type=click.Choice(list(map(str, AttachmentKind))),
            help="How the apps show it [default: by the file's name].",
        ),
        click.Option(["--mimetype"], help="Its media type [default: by the file's name]."),
    ]
    command.arguments = (*command.arguments[:2], ("FILE", "the file"))
    command.help, command.short_help = _HELP, operation.help
    command.callback = _send
    return command


def _send(file: Path, kind: str | None, mimetype: str | None, **values: Any) -> None:
    now, operation = session(), find("messages.send_file")
    mimetype = mimetype or guess_mimetype(file.name)
    chosen = AttachmentKind(kind) if kind else guess_kind(mimetype)
    if chosen is AttachmentKind.VOICE and mimetype == "audio/ogg":
        mimetype = _VOICE
    if chosen is AttachmentKind.DOCUMENT and not values["filename"]:
        values["filename"] = file.name
    values |= {"kind": str(chosen), "mimetype": mimetype}
    with now.client() as client:
        values["sha256"] = _bring(now, client, file, chosen)
        params = given(operation, values)
        reply = client.call(operation.name, params, wait=float(values["wait"]))
    judge(now, values, reply)


def guess_mimetype(name: str) -> str:
    """The media type that a file's name promises."""
    found, encoding = mimetypes.guess_type(name)
    return "application/octet-stream" if found is None or encoding else found


def guess_kind(mimetype: str) -> AttachmentKind:
    """What a file of this media type is sent as, if nobody says otherwise."""
    if mimetype.startswith("audio/"):
        return AttachmentKind.AUDIO
    return _KINDS.get(mimetype, AttachmentKind.DOCUMENT)


def _bring(now: Invocation, client: Client, file: Path, kind: AttachmentKind) -> str:
    """Bring a file to the daemon; its hash there.  Raises BadInput, TooLong, and what the daemon says."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            check_size(kind, size)
            if size <= _LARGE or now.json or not sys.stderr.isatty():
                return _put(client, opened, kind, size, lambda count: None)
            with click.progressbar(length=size, label=plain(file.name), file=sys.stderr) as bar:
                return _put(client, opened, kind, size, bar.update)
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error


def _put(
    client: Client,
    opened: IO[bytes],
    kind: AttachmentKind,
    size: int,
    told: Callable[[int], None],
) -> str:
    reply: Any = {"received": 0, "upload": "", "sha256": ""}
    while not reply["sha256"]:
        piece = opened.read(min(PIECE_LIMIT, size - reply["received"]))
        if not piece:
            raise BadInput(f"{opened.name} became shorter while it was read")
        params = {"kind": str(kind), "size": size, "data": piece}
        reply = client.call(
            "media.put", params | {"offset": reply["received"], "upload": reply["upload"]}
        )
        told(len(piece))
    return str(reply["sha256"])
