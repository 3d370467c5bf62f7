"""`send-file`: reads the file, not the daemon, and uploads it to the daemon in pieces."""

from __future__ import annotations

import mimetypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

import click

from wad.api.operation import find
from wad.api.views.outbox import PieceReply
from wad.core.errors import BadInput
from wad.core.outgoing import PIECE_LIMIT, AttachmentKind
from wad.core.outgoing_rules import check_size
from wadctl.client import Client
from wadctl.commands import Command, command_of, params_of
from wadctl.invocation import Invocation, current_invocation
from wadctl.screen import plain
from wadctl.sending import show_result

_LARGE: Final = 4 << 20  # bytes; larger files get a progress bar
_DERIVED: Final = ("sha256", "kind", "mimetype")  # parameters that wadctl derives from the file
_KINDS: Final = {
    "image/jpeg": AttachmentKind.IMAGE,
    "image/png": AttachmentKind.IMAGE,
    "image/webp": AttachmentKind.STICKER,
    "video/mp4": AttachmentKind.VIDEO,
    "video/3gpp": AttachmentKind.VIDEO,
}
_OGG: Final = ("audio/ogg", "application/ogg", "audio/opus")
_VOICE: Final = "audio/ogg; codecs=opus"  # the only media type that the apps show as a voice note

_HELP: Final = """\
Send a file: an image, video, audio file, voice note, document or sticker.

The kind is derived from the file name: jpg and png are images, mp4 and 3gp videos, webp a sticker, audio files audio,
everything else a document. A voice note needs --kind voice, and must be Opus in Ogg.

Example: wadctl send-file main +15550000002 menu.pdf --caption "our menu" --wait 30"""


def send_file_command() -> Command:
    """The command `send-file`: takes a FILE in place of the operation's parameters about it."""
    operation = find("messages.send_file")
    command = command_of(operation)
    command.params = [param for param in command.params if param.name not in _DERIVED]
    command.params[2:2] = [
        click.Argument(["file"], type=click.Path(path_type=Path)),
        click.Option(
            ["--kind"],
            type=click.Choice(list(map(str, AttachmentKind))),
            help="How the apps show it [default: by the file name].",
        ),
        click.Option(
            ["--mimetype"], help="Its media type, e.g. image/jpeg [default: by the file name]."
        ),
    ]
    command.arguments = (*command.arguments[:2], ("FILE", "the file to send"))
    command.help, command.short_help = _HELP, operation.help
    command.callback = _send
    return command


def _send(file: Path, kind: str | None, mimetype: str | None, **values: Any) -> None:
    invocation, operation = current_invocation(), find("messages.send_file")
    mimetype = mimetype or guess_mimetype(file.name)
    chosen = AttachmentKind(kind) if kind else guess_kind(mimetype)
    if chosen is AttachmentKind.VOICE and mimetype in _OGG:
        mimetype = _VOICE
    if chosen is AttachmentKind.DOCUMENT and not values["filename"]:
        values["filename"] = file.name
    values |= {"kind": str(chosen), "mimetype": mimetype}
    with invocation.client() as client:
        values["sha256"] = _upload(invocation, client, file, chosen)
        params = params_of(operation, values)
        params.pop("wait", None)  # show_result() follows the message
        reply = client.call(operation.name, params)
    show_result(invocation, values, reply)


def guess_mimetype(name: str) -> str:
    """The media type of a file by its name."""
    found, encoding = mimetypes.guess_type(name)
    return "application/octet-stream" if found is None or encoding else found


def guess_kind(mimetype: str) -> AttachmentKind:
    """The default kind for this media type."""
    if mimetype.startswith("audio/"):
        return AttachmentKind.AUDIO
    return _KINDS.get(mimetype, AttachmentKind.DOCUMENT)


def _upload(invocation: Invocation, client: Client, file: Path, kind: AttachmentKind) -> str:
    """Upload a file to the daemon and return its SHA-256.  Raises BadInput, TooLong and the daemon's errors."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            check_size(kind, size)
            if size <= _LARGE or invocation.json or not sys.stderr.isatty():
                return _upload_pieces(client, opened, kind, size, lambda count: None)
            with click.progressbar(length=size, label=plain(file.name), file=sys.stderr) as bar:
                return _upload_pieces(client, opened, kind, size, bar.update)
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error


def _upload_pieces(
    client: Client,
    opened: IO[bytes],
    kind: AttachmentKind,
    size: int,
    report: Callable[[int], None],
) -> str:
    reply = PieceReply(upload="", received=0, sha256="")
    while not reply.sha256:
        piece = opened.read(min(PIECE_LIMIT, size - reply.received))
        if not piece:
            raise BadInput(f"{opened.name} shrank while it was read")
        params = {"kind": str(kind), "size": size, "data": piece}
        params |= {"offset": reply.received, "upload": reply.upload}
        reply = client.fetch(PieceReply, "media.put", params)
        report(len(piece))
    return reply.sha256
