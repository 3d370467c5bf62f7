"""Whether a client's key was used already: by a function, or with the backend that wad replaces."""

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
_TIMEOUT: Final = 5.0  # seconds; somebody waits


@dataclass(frozen=True, slots=True)
class Use:
    """Where a key is: whether as a request, and in which entry of another id."""

    request: bool
    entry: str | None


def use_of(client: Client, entry: Entry) -> Use:
    """Whether the key of a new entry was used otherwise.  Raises Conflict where the backend before us sent under it.

    A function's entry has the client's key in it, and its own key, which wad takes for the client's, as its id
    (docs/internals/replaced-backend.md#outbox).  Another account's key is another one.
    """
    key = entry.client_id
    alike: Query = client.collection("outbox").where(
        filter=FieldFilter("clientMessageId", "==", key)
    )
    found = read(alike.limit(_ALIKE), timeout=_TIMEOUT)
    if not is_key(key):
        named: dict[str, Snapshot] = {}
    else:
        shots = get_all(client, [request_path(key), entry_path(key)], timeout=_TIMEOUT)
        named = {shot.path.partition("/")[0]: shot for shot in shots if shot.exists}
    request = named.get("send_requests")
    if "outbox" in named:
        found.append(named["outbox"])
    for shot in found:
        document = shot.fields
        if shot.id == entry.id or document.get("accountId") != entry.account:
            continue
        if not is_ours(document) and document.get("status") != "queued":
            raise _refusal(entry, document)
        return Use(request is not None, shot.id)
    said = request.fields if request is not None else {}
    if said.get("accountId") == entry.account and said.get("requestId") != entry.id:
        raise _refusal(entry, said)
    return Use(request is not None, None)


def _refusal(entry: Entry, document: Mapping[str, Any]) -> Conflict:
    return Conflict(
        f"client message id {entry.client_id!r} was used with the backend before wad:"
        f" {document.get('status', 'its result is unknown')}",
        hint="use a new id for each message; the same id means the same message",
    )
