"""What the phone calls its contacts: the address book that the library keeps, compared with what was told of it.

The phone shares its address book as app state.  The library writes it into the session's database and hands over no
event that neonize would pass on.  So the table is read from time to time, and each name that is new becomes an event.
The daemon reads it, as the worker must not (see lost.py).  A name that is taken away stays: no event says that.
"""

from __future__ import annotations

from contextlib import closing

from wad.clock import Clock
from wad.core import event as words
from wad.core.errors import BadJid
from wad.core.event import ChatReceived
from wad.core.jid import Jid
from wad.engine import session
from wad.home import Home
from wad.spool import Arrival, Spool


class AddressBook:
    """Of one account.  Not for use from several threads."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self._seen = hash(frozenset())

    def look(self) -> int | None:
        """Append an event for each name that is new or was changed; the newest row, None where there is none.

        Raises Damaged, Unavailable, StateUnwritable.
        """
        names = session.saved_names(self._home.session_db)
        seen = hash(frozenset(names.items()))
        if seen == self._seen:
            return None
        now = self._clock.wall_ms()
        events = {
            address: Arrival(now, "contact", "", b"", words.encode(event))
            for address, name in names.items()
            if (event := _event(address, name, now)) is not None
        }
        with closing(Spool.open(self._home.spool_db)) as spool:
            newest = spool.tell_names(names, events)
        self._seen = seen
        return newest


def _event(address: str, name: str, now_ms: int) -> ChatReceived | None:
    try:
        chat = Jid.parse(address)
    except BadJid:
        return None
    return ChatReceived(chat, name=name, name_ms=now_ms) if chat.is_person else None
