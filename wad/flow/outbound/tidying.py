"""What goes when nobody needs it any more: files that were sent."""

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
    """Delete the files that arrived before then, unless a waiting message needs them.

    A message that failed keeps its file for as long as a fresh one: long enough to be sent again.  Raises WadError.
    """
    gone = await media.prune(await files_needed(store), before_ms)
    if gone:
        log.info("%d files that were sent are gone from %s", gone, media.root)


async def files_needed(store: Store) -> set[str]:
    """The hashes of all files that waiting messages carry."""
    needed: set[str] = set()
    before: PagePosition | None = None
    while True:
        entries = await store.entries(None, states=_WAITING, limit=_BATCH, before=before)
        needed |= {e.content.sha256 for e in entries if isinstance(e.content, Attachment)}
        if len(entries) < _BATCH:
            return needed
        before = PagePosition(entries[-1].created_ms, entries[-1].id)
