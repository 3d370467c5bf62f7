"""Which messages the library has decrypted and wad never got: a comparison of the library's list with the spool.

The library lists each message before it hands it over (session.messages_listed).  What is listed and is neither in the
spool nor about to be sent again was lost, and gets a row of its own, so that somebody may ask the sender.  With
receipts after the commit there should be none.

How far the comparison got is remembered, since the list is for ever and the spool is pruned.  It is made whenever
WhatsApp has sent all that waited, and up to where the list was the time before: then every message in that part has
been sent again if it will ever be, and what the library had in its queue has been stored.

All this is the daemon's work, not the worker's: a worker must not open the session's database while the library has it
open.  The library brings its own SQLite, and POSIX locks belong to the process: when one of the two closes the file,
the other's locks are gone; the first that closes deletes the log under the other ("disk I/O error", seen).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from wad.core import event as words
from wad.core.errors import BadJid
from wad.core.event import Content, MessageKind, MessageReceived
from wad.core.jid import Jid
from wad.core.text import is_ident
from wad.engine import session_db
from wad.engine.session_db import ListedMessage
from wad.lib.clock import Clock
from wad.lib.protobuf_wire import fields
from wad.state.account_dir import AccountDir
from wad.state.spool import Arrival, ComparedUpTo, Spool

log = logging.getLogger("wad.lost")

_MOST: Final = 128
"""More than that cannot get lost at once, as the library's queue holds 102: it was a history sync, whose messages are
listed, too, and which was itself lost on its way."""

_PATH_OF_ID: Final = (1, 2, 2, 1, 1, 3)
"""Neonize.HistorySync.Data, .conversations, .messages, .message, .key, .ID: field numbers."""


class Comparison:
    """For one run of a worker.  Not for use from several threads."""

    def __init__(self, home: AccountDir, clock: Clock) -> None:
        """Note where the list ends before the library connects.  Raises Damaged, Unavailable, StateUnwritable."""
        self._home = home
        self._clock = clock
        with closing(Spool.open(home.spool_db)) as spool:
            self._noted = self._note(spool)
            known = spool.mark()
            if known is None or known.listed > self._noted.listed:
                # The first time, or another session's list: nothing can be said of what came before.
                spool.compared(self._noted)

    def _note(self, spool: Spool) -> ComparedUpTo:
        # In this order: whatever is listed after the end of the list has its row after the end of the spool.
        seq = spool.last_seq()
        return ComparedUpTo(session_db.newest_secret(self._home.session_db), seq)

    def make(self) -> int | None:
        """Everything that waited has come, and is stored.  Append a row for each message that did not come.

        The newest row, or None where nothing was lost.  Raises as above.
        """
        with closing(Spool.open(self._home.spool_db)) as spool:
            mark, up_to = spool.mark(), self._noted
            self._noted = self._note(spool)
            if mark is None or up_to.listed <= mark.listed:
                return None
            lost = [] if spool.pruned_after(mark.seq) else self._missing(spool, mark, up_to.listed)
            if len(lost) > _MOST:
                log.warning(
                    "%d messages are listed and not stored: taken for a history sync", len(lost)
                )
                lost = []
            newest = spool.compared(up_to, [self._row(one) for one in lost])
        if not lost:
            return None
        log.error(
            "%d messages were decrypted and lost", len(lost), extra={"account": self._home.id}
        )
        return newest

    def _missing(self, spool: Spool, mark: ComparedUpTo, up_to: int) -> list[ListedMessage]:
        listed = {
            one.wa_id: one
            for one in session_db.messages_listed(self._home.session_db, mark.listed, up_to)
            if _is_address(one.chat) and _is_address(one.sender)
        }
        missing = listed.keys() - spool.has_ids(listed)
        if missing:
            for raw in spool.raw_after(mark.seq, "historysync"):
                missing.difference_update(ids_of_history(raw))
        return [one for one in listed.values() if one.wa_id in missing]

    def _row(self, one: ListedMessage) -> Arrival:
        now = self._clock.wall_ms()
        event = MessageReceived(
            id=one.wa_id,
            chat=Jid.parse(one.chat),
            sender=Jid.parse(one.sender),
            at_ms=now,
            content=Content(MessageKind.LOST),
        )
        return Arrival(now, "lost", one.wa_id, b"", words.encode(event))


def _is_address(text: str) -> bool:
    try:
        Jid.parse(text)
    except BadJid:
        return False
    return True


# --- the ids in a history sync --------------------------------------------------------------------


def ids_of_history(raw: bytes) -> set[str]:
    """The ids of the messages in a neonize HistorySync, read field by field: as objects it would fill the memory.

    Bytes that are no such message have none, and an id that cannot be read exactly is none.
    """
    try:
        texts = [bytes(found) for found in _at(memoryview(raw), 0)]
    except ValueError:
        return set()
    return {found for text in texts if is_ident(found := text.decode(errors="surrogateescape"))}


def _at(part: memoryview, depth: int) -> Iterator[memoryview]:
    if depth == len(_PATH_OF_ID):
        yield part
        return
    for number, _, inside, end in fields(part):
        if number == _PATH_OF_ID[depth] and inside is not None:
            yield from _at(part[inside:end], depth + 1)
