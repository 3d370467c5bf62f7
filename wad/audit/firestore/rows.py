"""The audit's queries of Firestore; their indexes are declared.

Firestore compares values of one type only: a range of Timestamps finds no texts.  So each type has its own range, and
the documents outside of all ranges are counted by the server, which costs one read for a thousand documents.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Generic

from wad.audit.firestore.decode import location_of, message_row, redirect_of, thread_row
from wad.audit.hints import index_link, is_missing_index, refusal_of
from wad.audit.keys import parse
from wad.audit.rows import Aliases, MessageRow, R, ReadRows, Scope, ThreadRow
from wad.config.settings import StoreSettings
from wad.core.errors import Unavailable
from wad.core.jid import JidKind
from wad.core.untrusted import SECONDS_UP_TO, text
from wad.store.app_documents import moment
from wad.store.firestore.client.access import access_of
from wad.store.firestore.client.database import Client, FieldFilter, Firestore, Query, Snapshot
from wad.store.firestore.client.decode import after
from wad.store.firestore.client.decode import find as read

TIMEOUT: Final = 30.0  # seconds for one page
PAGE: Final = 250  # documents, as in the reference's ascending fallback
_DIGITS_ALIKE_MS: Final = (
    1_000_000_000_000  # September 2001: since then seconds have ten digits, and sort as texts
)
_LOWEST: Final = {"timestamp": datetime(1, 1, 1, tzinfo=UTC), "string": "", "number": -1e300}

Read = Callable[[Snapshot], R | None]
"""Decodes a document as a row; None for one outside of the scope."""


class FirestoreRows:
    """`wad.audit.rows.Rows` of a Firestore database.  It only reads."""

    kind = "firestore"

    def __init__(self, firestore: Firestore) -> None:
        self._firestore = firestore
        self.mode = "desc"

    @staticmethod
    def open(settings: StoreSettings) -> FirestoreRows:
        """Open the database of the settings, without network access yet.  Raises BadConfig."""
        return FirestoreRows(Firestore(access_of(settings), "audit", 1))

    def close(self) -> None:
        """Close the connection."""
        self._firestore.close()

    def aliases(self) -> Aliases:
        """Every LID whose number is known: from `jid_aliases`, and from threads that redirect to a number's thread."""
        return self._firestore.now(aliases_of)

    def messages(self, scope: Scope) -> ReadRows[MessageRow]:
        """Messages of the scope."""

        def read(snapshot: Snapshot) -> MessageRow | None:
            location = location_of(snapshot.path)
            if location is None:
                return None
            row = message_row(location, snapshot.fields)
            return row if scope.account in ("", row.account) else None

        return self._found(lambda client: _messages(client, scope), "tsClient", scope, read)

    def threads(self, scope: Scope) -> ReadRows[ThreadRow]:
        """Threads of the scope; redirecting threads are counted."""
        redirected: set[str] = set()

        def read(snapshot: Snapshot) -> ThreadRow | None:
            row = thread_row(snapshot.id, snapshot.fields)
            if row is None:
                redirected.add(snapshot.id)
            return row

        found = self._found(lambda client: _threads(client, scope), "lastMessageAt", scope, read)
        return ReadRows(
            rows=found.rows,
            types=found.types,
            older=found.older,
            timeless=found.timeless,
            redirected=len(redirected),
            mode=found.mode,
            index_link=found.index_link,
        )

    def _found(
        self, base: Callable[[Client], Any], field: str, scope: Scope, read: Read[R]
    ) -> ReadRows[R]:
        """The rows, newest first; if the index for that is missing, by the ascending index."""
        self.mode = "desc"
        try:
            return self._firestore.now(
                lambda client: _Query(base(client), field, scope, read, "DESCENDING").found(None)
            )
        except Unavailable as error:
            refused = refusal_of(error)
            if refused is None or not is_missing_index(error):
                raise
            link = index_link(refused.message)
        self.mode = "asc_fallback"
        return self._firestore.now(
            lambda client: _Query(base(client), field, scope, read, "ASCENDING").found(link)
        )


def _messages(client: Client, scope: Scope) -> Any:
    if scope.thread:
        return client.collection(f"threads/{scope.thread}/messages")
    return _of_account(client.collection_group("messages"), scope)


def _threads(client: Client, scope: Scope) -> Any:
    return _of_account(client.collection("threads"), scope)


def _of_account(base: Any, scope: Scope) -> Any:
    if not scope.account:
        return base
    return base.where(filter=FieldFilter("accountId", "==", scope.account))


class _Query(Generic[R]):
    """One query of one client: the rows that may be in the window, in one order."""

    def __init__(self, base: Any, field: str, scope: Scope, read: Read[R], direction: str) -> None:
        self._base = base
        self._field = field
        self._scope = scope
        self._read: Read[R] = read
        self._direction = direction

    def found(self, link: str | None) -> ReadRows[R]:
        """The rows, and the counts."""
        rows: list[R] = []
        types = {name: self._count(low, None) for name, low in _LOWEST.items()}
        older = sum(types.values())
        for low, high in _ranges(self._scope.since_ms):
            rows += self._rows(low, high)
            older -= self._count(low, high)
        types["other"] = _counted(self._ordered()) - sum(types.values())
        if not self._scope.account or self._scope.thread:
            # For one account in all threads this would need an index that no other query needs.
            types["absent"] = _counted(self._base) - sum(types.values())
        return ReadRows(
            rows=tuple(rows),
            types={name: count for name, count in types.items() if count},
            older=older,
            timeless=types["other"] + types.get("absent", 0),
            mode="desc" if self._direction == Query.DESCENDING else "asc_fallback",
            index_link=link,
        )

    def _ordered(self) -> Any:
        return self._base.order_by(self._field, direction=self._direction)

    def _between(self, low: object, high: object) -> Any:
        found = self._ordered().where(filter=FieldFilter(self._field, ">=", low))
        return found if high is None else found.where(filter=FieldFilter(self._field, "<", high))

    def _count(self, low: object, high: object) -> int:
        return _counted(self._between(low, high))

    def _rows(self, low: object, high: object) -> Iterable[R]:
        """The newest rows of a range, one more than the limit."""
        wanted = self._scope.limit + 1
        rows = self._accepted(self._between(low, high))
        return islice(rows, wanted) if self._direction == Query.DESCENDING else deque(rows, wanted)

    def _accepted(self, query: Any) -> Iterator[R]:
        size = min(PAGE, self._scope.limit + 1)
        for snapshot in pages(query, size if self._direction == Query.DESCENDING else PAGE):
            row = self._read(snapshot)
            if row is not None:
                yield row


def _ranges(since_ms: int) -> Iterator[tuple[object, object]]:
    """The ranges of a window: Timestamps, ISO texts and digits, seconds and milliseconds; no two overlap.

    Digits begin with 1 until May 2033 and sort below ISO texts, which would all have to be read otherwise.
    """
    since = moment(max(since_ms, 0))
    yield since, None
    if since_ms < _DIGITS_ALIKE_MS:
        yield _LOWEST["string"], None
        yield _LOWEST["number"], None
        return
    day, seconds = f"{since - timedelta(days=1):%Y-%m-%d}", since_ms // 1000
    yield str(seconds), "2" if str(seconds) < "2" else day
    yield day, None  # a day earlier, for any time zone of a text
    yield seconds, SECONDS_UP_TO
    yield since_ms, None


def pages(query: Any, size: int) -> Iterator[Snapshot]:
    """All documents of a query, `size` at a time."""
    last: Snapshot | None = None
    while True:
        part = query if last is None else after(query, last)
        found = read(part.limit(size), timeout=TIMEOUT)
        yield from found
        if len(found) < size:
            return
        last = found[-1]


def _counted(query: Any) -> int:
    ((result,),) = query.count().get(retry=None, timeout=TIMEOUT)
    return int(result.value)


def aliases_of(client: Client) -> Aliases:
    """(account, LID) -> number, from `jid_aliases` and from threads that redirect to a number's thread."""
    found: dict[tuple[str, str], str] = {}
    pointing = client.collection("threads").where(filter=FieldFilter("redirectTo", ">", ""))
    for snapshot in pages(pointing.order_by("redirectTo"), PAGE):
        account, _, old = snapshot.id.partition("__")
        _note(
            found,
            account,
            old,
            redirect_of(snapshot.id, snapshot.fields).partition("__")[2],
        )
    for snapshot in pages(client.collection("jid_aliases").order_by("__name__"), PAGE):
        fields = snapshot.fields
        account = text(fields, "accountId") or snapshot.id.partition("__")[0]
        lid = text(fields, "rawJid") or snapshot.id.partition("__")[2]
        _note(found, account, lid, text(fields, "canonicalJid"))
    return found


def _note(found: dict[tuple[str, str], str], account: str, lid: str, pn: str) -> None:
    hidden, number = parse(lid), parse(pn)
    if hidden is None or number is None:
        return
    if hidden.kind is JidKind.LID and number.kind is JidKind.PN:
        found[account, str(hidden)] = str(number)
