"""Commits of many documents, built from protobuf messages directly.

The library's batch merges documents field by field: 400 messages take 0.23 s of processor time there and 0.02 s here
(measured).  Here a document's top-level fields are replaced whole, and fields that are not named stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from google.cloud.firestore_v1.types import CommitRequest
from google.cloud.firestore_v1.types import Write as _Write

from wad.store.firestore.client import internals
from wad.store.firestore.client.database import Client, translated

Write = Any
"""The protobuf message `google.firestore.v1.Write`, whose class is created at run time."""

_write: Final = _Write.pb()
_request: Final = CommitRequest.pb()
_NOW: Final = 1  # FieldTransform.ServerValue.REQUEST_TIME


def upsert(
    client: Client, path: str, fields: Mapping[str, Any], stamps: Sequence[str] = ()
) -> Write:
    """A write of these fields; each field in `stamps` is set to the server's time of the commit."""
    write = _write()
    write.update.name = internals.document_name(client, path)
    # An empty mask keeps all stored fields.
    write.update_mask.SetInParent()
    into = write.update.fields
    for name, value in fields.items():
        _encode(value, into[name])
    write.update_mask.field_paths.extend(fields)
    for name in stamps:
        transform = write.update_transforms.add()
        transform.field_path = name
        transform.set_to_server_value = _NOW
    return write


def removal(client: Client, path: str) -> Write:
    """A write that deletes a document, if it exists."""
    write = _write()
    write.delete = internals.document_name(client, path)
    return write


def if_there(write: Write, there: bool) -> Write:
    """Add a precondition: the commit fails unless the document exists (`there`), or does not exist."""
    write.current_document.exists = there
    return write


def if_unchanged(write: Write, update_time: datetime) -> Write:
    """Add a precondition: the commit fails unless the document still has this update time."""
    moment = write.current_document.update_time
    moment.seconds = int(update_time.timestamp())
    moment.nanos = getattr(update_time, "nanosecond", update_time.microsecond * 1000)
    return write


def commit(client: Client, writes: Sequence[Write], timeout: float) -> None:
    """Commit all of these writes or none; `timeout` in seconds.  Raises as `Firestore.call`."""
    request = _request(database=internals.database_name(client))
    request.writes.extend(writes)
    with translated():
        internals.api(client).commit(
            request=CommitRequest.wrap(request),
            metadata=internals.metadata(client),
            retry=None,
            timeout=timeout,
        )


def _encode(value: Any, into: Any) -> None:
    match value:  # the most frequent first; a bool is an int, and a str is a Sequence
        case str():
            into.string_value = value
        case None:
            into.null_value = 0
        case bool():
            into.boolean_value = value
        case int():
            into.integer_value = value
        case float():
            into.double_value = value
        case bytes():
            into.bytes_value = value
        case datetime():
            into.timestamp_value.seconds = int(value.timestamp() // 1)
            into.timestamp_value.nanos = value.microsecond * 1000
        case Mapping():
            into.map_value.SetInParent()
            for name, part in value.items():
                _encode(part, into.map_value.fields[name])
        case Sequence():
            into.array_value.SetInParent()
            for part in value:
                _encode(part, into.array_value.values.add())
        case _:
            raise TypeError(f"Firestore has no value for a {type(value).__name__}")
