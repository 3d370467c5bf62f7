"""Files to send come to the daemon piece by piece, so that it never opens a path that somebody names."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.core.outgoing import PIECE_LIMIT, AttachmentKind


class FilePiece(Params, frozen=True):
    """One piece of a file.  The first one names no upload; the reply does."""

    kind: Annotated[AttachmentKind, Meta(description="what it will be sent as")]
    size: Annotated[int, Meta(description="bytes of the whole file")]
    data: Annotated[bytes, Meta(max_length=PIECE_LIMIT, description="the bytes of this piece")]
    offset: Annotated[int, Meta(ge=0, description="bytes of the file before this piece")] = 0
    upload: Annotated[str, Meta(description="the upload, as the first reply named it")] = ""


class PieceReply(msgspec.Struct, frozen=True):
    """How many bytes of the file have arrived; `sha256`, in hexadecimal, once it is whole."""

    upload: str
    received: int
    sha256: str


@operation("media.put", http=None, access=Access.OPERATE, leader_only=True)
async def put(context: Context, request: FilePiece) -> PieceReply:
    """Take a piece of a file, in order; at most 1 MiB each."""
    media = context.media
    upload = request.upload or media.begin(request.kind, request.size)
    done = await media.put(upload, request.offset, request.data)
    return PieceReply(upload, done.received, done.sha256)
