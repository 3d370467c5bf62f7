"""Deletion of files that were sent and are no longer needed."""

from __future__ import annotations

import logging
from typing import Final

from wad.core.message import MessageStatus
from wad.core.outgoing import Attachment
from wad.state.outgoing_files import OutgoingFiles
from wad.store import Store
from wad.store.port import PagePosition

log = logging.getLogger(__name__)

_WAITING: Final = (MessageStatus.QUEUED, MessageStatus.SENDING)
_BATCH: Final = 500


async def tidy_media(store: Store, media: OutgoingFiles, before_ms: int) -> None:
    """Delete the files that were stored before `before_ms`, unless a waiting message needs them.

    The file of a failed message is kept as long as a new file: long enough to send it again.  Raises WadError.
    """
    gone = await media.prune(await files_needed(store), before_ms)
    if gone:
        log.info("%d sent files were deleted from %s", gone, media.root)


async def files_needed(store: Store) -> set[str]:
    """The hashes of all files of waiting messages."""
    needed: set[str] = set()
    before: PagePosition | None = None
    while True:
        entries = await store.entries(None, states=_WAITING, limit=_BATCH, before=before)
        needed |= {e.content.sha256 for e in entries if isinstance(e.content, Attachment)}
        if len(entries) < _BATCH:
            return needed
        before = PagePosition(entries[-1].created_ms, entries[-1].id)
