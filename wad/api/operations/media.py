"""The upload of files to send, in pieces, so that the daemon never opens a path that a caller names."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.outbox import PieceReply
from wad.core.outgoing import PIECE_LIMIT, AttachmentKind


class FilePiece(Params, frozen=True):
    """One piece of a file.  The first request names no upload; its reply does."""

    kind: Annotated[AttachmentKind, Meta(description="the kind that it will be sent as")]
    size: Annotated[int, Meta(description="the size of the whole file in bytes")]
    data: Annotated[bytes, Meta(max_length=PIECE_LIMIT, description="the bytes of this piece")]
    offset: Annotated[int, Meta(ge=0, description="the number of bytes before this piece")] = 0
    upload: Annotated[str, Meta(description="the upload's name, from the first reply")] = ""


@operation("media.put", http=None, access=Access.OPERATE, leader_only=True)
async def put(context: Context, request: FilePiece) -> PieceReply:
    """Upload one piece of a file, in order, at most 1 MiB."""
    media = context.media
    upload = request.upload or media.begin(request.kind, request.size)
    done = await media.put(upload, request.offset, request.data)
    return PieceReply(upload, done.received, done.sha256)
