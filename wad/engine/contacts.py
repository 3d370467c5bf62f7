"""Contact names: the phone's address book in the session's database, compared with the names already reported.

The phone shares its address book as app state.  The library writes it into the session's database and emits no event
that neonize would pass on.  So the table is read from time to time, and each new name becomes an event.  The daemon
reads it, as the worker must not (see lost_messages.py).  A deleted name stays: there is no event for that.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from wad.core import event as event_codec
from wad.core.errors import BadJid
from wad.core.event import ChatReceived
from wad.core.jid import Jid
from wad.engine import session_db
from wad.lib.clock import Clock
from wad.lib.sqlite_file import log_of
from wad.state.account_dir import AccountDir
from wad.state.spool import Arrival, Spool

_SETTLED_NS: Final = 2_000_000_000
"""Two writes in quick succession may leave the same time and size."""


class AddressBook:
    """The address book of one account.  Not for use from several threads."""

    def __init__(self, account_dir: AccountDir, clock: Clock) -> None:
        self._account_dir = account_dir
        self._clock = clock
        self._seen = hash(frozenset())
        self._checked: tuple[int, ...] | None = None

    def check(self) -> int | None:
        """Append an event for each new or changed name; returns the newest row, None if there is none.

        Raises Damaged, Unavailable, StateUnwritable.
        """
        state = self._state()
        if state is not None and state == self._checked:
            return None
        names = session_db.saved_names(self._account_dir.session_db)
        seen = hash(frozenset(names.items()))
        if seen == self._seen:
            self._checked = state
            return None
        now = self._clock.wall_ms()
        events = {
            address: Arrival(now, "contact", "", b"", event_codec.encode(event))
            for address, name in names.items()
            if (event := _event(address, name, now)) is not None
        }
        with closing(Spool.open(self._account_dir.spool_db)) as spool:
            newest = spool.tell_names(names, events)
        self._seen, self._checked = seen, state
        return newest

    def _state(self) -> tuple[int, ...] | None:
        """A signature that stays the same while nobody writes the database; None if it was written just now.

        Hundreds of idle accounts are checked every minute, and opening a database costs more than anything else here.
        """
        file = self._account_dir.session_db
        found = []
        for path in (file, log_of(file)):
            try:
                status = path.stat()
            except OSError:
                continue  # opening it reports the error
            found += [status.st_ino, status.st_size, status.st_mtime_ns]
        newest = max(found[2::3], default=0)
        return tuple(found) if self._clock.wall_ms() * 1_000_000 - newest > _SETTLED_NS else None


def _event(address: str, name: str, now_ms: int) -> ChatReceived | None:
    try:
        chat = Jid.parse(address)
    except BadJid:
        return None
    return ChatReceived(chat, name=name, name_ms=now_ms) if chat.is_person else None
