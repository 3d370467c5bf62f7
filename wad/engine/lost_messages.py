"""Detection of lost messages, which the library has decrypted and wad never got: its list compared with the spool.

The library lists each message before it hands it over (session_db.messages_listed).  A message that is listed and is
neither in the spool nor about to be sent again was lost, and gets a row of its own, so that an operator can ask the
sender.  With receipts after the commit there should be none.

The position of the last comparison is stored, since the list is permanent and the spool is pruned.  It runs whenever
WhatsApp has sent everything that waited, and covers the list up to its end at the previous run: then every message in
that part has been sent again if it ever will be, and the library's queue has been stored.

The daemon does all this, not the worker: a worker must not open the session's database while the library has it open.
The library brings its own SQLite, and POSIX locks belong to the process: when one of the two closes the file, the
other's locks are gone; the first that closes deletes the log of the other ("disk I/O error", seen).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from wad.core import event as event_codec
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

_MAX_LOST: Final = 128
"""More cannot be lost at once, as the library's queue holds 102: they belong to a history sync, whose messages are
listed, too, and which was itself lost."""

_PATH_OF_ID: Final = (1, 2, 2, 1, 1, 3)
"""Neonize.HistorySync.Data, .conversations, .messages, .message, .key, .ID: field numbers."""


class Comparison:
    """The comparison for one run of a worker.  Not for use from several threads."""

    def __init__(self, account_dir: AccountDir, clock: Clock) -> None:
        """Record the end of the list before the library connects.  Raises Damaged, Unavailable, StateUnwritable."""
        self._account_dir = account_dir
        self._clock = clock
        with closing(Spool.open(account_dir.spool_db)) as spool:
            self._end = self._read_end(spool)
            known = spool.mark()
            if known is None or known.listed > self._end.listed:
                # The first run, or another session's list: nothing is known about earlier messages.
                spool.compared(self._end)

    def _read_end(self, spool: Spool) -> ComparedUpTo:
        # In this order: a message that is listed later has its row after this end of the spool.
        seq = spool.last_seq()
        return ComparedUpTo(session_db.newest_secret(self._account_dir.session_db), seq)

    def run(self) -> int | None:
        """Append a row for each lost message, once everything that waited has arrived and is stored.

        The newest row, or None if nothing was lost.  Raises as above.
        """
        with closing(Spool.open(self._account_dir.spool_db)) as spool:
            mark, up_to = spool.mark(), self._end
            self._end = self._read_end(spool)
            if mark is None or up_to.listed <= mark.listed:
                return None
            lost = [] if spool.pruned_after(mark.seq) else self._missing(spool, mark, up_to.listed)
            if len(lost) > _MAX_LOST:
                log.warning(
                    "%d messages are listed and not stored: assumed to be a history sync", len(lost)
                )
                lost = []
            newest = spool.compared(up_to, [self._row(one) for one in lost])
        if not lost:
            return None
        log.error(
            "%d messages were decrypted and lost",
            len(lost),
            extra={"account": self._account_dir.id},
        )
        return newest

    def _missing(self, spool: Spool, mark: ComparedUpTo, up_to: int) -> list[ListedMessage]:
        listed = {
            one.wa_id: one
            for one in session_db.messages_listed(self._account_dir.session_db, mark.listed, up_to)
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
        return Arrival(now, "lost", one.wa_id, b"", event_codec.encode(event))


def _is_address(text: str) -> bool:
    try:
        Jid.parse(text)
    except BadJid:
        return False
    return True


# --- the ids in a history sync --------------------------------------------------------------------


def ids_of_history(raw: bytes) -> set[str]:
    """The ids of the messages in a neonize HistorySync, read field by field: as objects it would need much memory.

    Bytes that are not such a message have none; an id that cannot be read exactly is left out.
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
