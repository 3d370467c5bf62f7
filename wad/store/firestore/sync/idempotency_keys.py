"""Idempotency keys: whether a client's key was used already, by a function or by the replaced backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wad.core.errors import Conflict
from wad.core.outbox import Entry
from wad.store.firestore.client.database import Client, FieldFilter, Query
from wad.store.firestore.client.decode import Snapshot, get_all
from wad.store.firestore.client.decode import find as read
from wad.store.firestore.client.document_ids import is_key
from wad.store.firestore.documents.lookups import request_path
from wad.store.firestore.documents.outbox import entry_path, is_ours

_ALIKE: Final = 10  # entries that may carry one key, each of another account
_TIMEOUT: Final = 5.0  # seconds; a caller waits


@dataclass(frozen=True, slots=True)
class Use:
    """The earlier use of a key: whether as a request, and in which entry of another id."""

    request: bool
    entry: str | None


def use_of(client: Client, entry: Entry) -> Use:
    """Find an earlier use of a new entry's key.  Raises Conflict if the legacy backend sent a message under it.

    A function's entry has the client's key in a field, and its own key, which wad uses as the client's, as its id
    (docs/internals/replaced-backend.md#outbox).  Keys of different accounts are different.
    """
    key = entry.client_id
    alike: Query = client.collection("outbox").where(
        filter=FieldFilter("clientMessageId", "==", key)
    )
    found = read(alike.limit(_ALIKE), timeout=_TIMEOUT)
    if not is_key(key):
        named: dict[str, Snapshot] = {}
    else:
        snapshots = get_all(client, [request_path(key), entry_path(key)], timeout=_TIMEOUT)
        named = {
            snapshot.path.partition("/")[0]: snapshot for snapshot in snapshots if snapshot.exists
        }
    request = named.get("send_requests")
    if "outbox" in named:
        found.append(named["outbox"])
    for snapshot in found:
        document = snapshot.fields
        if snapshot.id == entry.id or document.get("accountId") != entry.account:
            continue
        if not is_ours(document) and document.get("status") != "queued":
            raise _refusal(entry, document)
        return Use(request is not None, snapshot.id)
    asked = request.fields if request is not None else {}
    if asked.get("accountId") == entry.account and asked.get("requestId") != entry.id:
        raise _refusal(entry, asked)
    return Use(request is not None, None)


def _refusal(entry: Entry, document: Mapping[str, Any]) -> Conflict:
    return Conflict(
        f"client message id {entry.client_id!r} was used with the replaced backend:"
        f" {document.get('status', 'its result is unknown')}",
        hint="use a new id for each message; the same id means the same message",
    )
