"""Reading documents: each is decoded on its own from the protobuf messages, whatever its fields hold.

The library decodes all documents of a response together, and raises on a reference into another project (an import
leaves such), so that one field of one document would end a whole stream.  Here every value can be decoded, and the code
that reads a field states what it expects (`wad.core.untrusted`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Final

from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.base_query import BaseQuery
from google.cloud.firestore_v1.client import Client
from google.cloud.firestore_v1.types import DocumentMask
from google.cloud.firestore_v1.types.firestore import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    RunQueryRequest,
    RunQueryResponse,
)
from proto.datetime_helpers import DatetimeWithNanoseconds

from wad.store.firestore.client import internals

NEVER: Final = DatetimeWithNanoseconds(1970, 1, 1, tzinfo=UTC)
"""The times of a document that does not exist, and a time that cannot be decoded: no write can match it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a document, possibly of another project.  `name`: its full name."""

    name: str


@dataclass(frozen=True, slots=True)
class GeoPoint:
    """A location on the earth, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that cannot be decoded: a time out of range, a type newer than this code."""

    type: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A document as it was read; without fields if it does not exist."""

    path: str
    exists: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    create_time: DatetimeWithNanoseconds = NEVER
    update_time: DatetimeWithNanoseconds = NEVER
    read_time: DatetimeWithNanoseconds = NEVER
    size: int = 0
    """The size in bytes of its protobuf message."""

    @property
    def id(self) -> str:
        """The document id, the last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def version(self) -> DatetimeWithNanoseconds | None:
        """Its update time; None if it does not exist."""
        return self.update_time if self.exists else None


# --- reading --------------------------------------------------------------------------------------


def get(client: Client, path: str, *names: str, timeout: float) -> Snapshot:
    """Read one document; only the fields `names`, if any are given."""
    return get_all(client, [path], *names, timeout=timeout)[0]


def get_all(client: Client, paths: Sequence[str], *names: str, timeout: float) -> list[Snapshot]:
    """Read these documents, in this order, as of one time."""
    request = BatchGetDocumentsRequest(
        database=internals.database_name(client),
        documents=list(dict.fromkeys(internals.document_name(client, path) for path in paths)),
        mask=DocumentMask(field_paths=names) if names else None,
    )
    found: dict[str, Snapshot] = {}
    answers: Iterable[Any] = internals.api(client).batch_get_documents(
        request=request, metadata=internals.metadata(client), retry=None, timeout=timeout
    )
    for answer in map(BatchGetDocumentsResponse.pb, answers):
        match answer.WhichOneof("result"):
            case "found":
                snapshot = snapshot_of(answer.found, time_of(answer.read_time))
                found[snapshot.path] = snapshot
            case "missing":
                path = path_of(answer.missing)
                found[path] = Snapshot(path, read_time=time_of(answer.read_time))
    return [found[path] for path in paths]


def find(query: BaseQuery, *, timeout: float) -> list[Snapshot]:
    """Run a query."""
    client = internals.client_of(query)
    parent, structured = internals.on_the_wire(query)
    request = RunQueryRequest(parent=parent, structured_query=structured)
    answers: Iterable[Any] = internals.api(client).run_query(
        request=request, metadata=internals.metadata(client), retry=None, timeout=timeout
    )
    return [
        snapshot_of(answer.document, time_of(answer.read_time))
        for answer in map(RunQueryResponse.pb, answers)
        if answer.HasField("document")
    ]


def after(query: Any, last: Snapshot) -> Any:
    """The query, starting after a document that it has found."""
    names = internals.order_of(query)
    values = {name: last.fields[name] for name in names if name in last.fields}
    reference = internals.client_of(query).document(last.path)
    return query.start_after(DocumentSnapshot(reference, values, True, None, None, None))


# --- decoding -------------------------------------------------------------------------------------


def snapshot_of(document: Any, read_time: DatetimeWithNanoseconds = NEVER) -> Snapshot:
    """Decode the protobuf message `google.firestore.v1.Document`.  Never raises."""
    return Snapshot(
        path_of(document.name),
        True,
        {name: value_of(value) for name, value in document.fields.items()},
        _time_or_never(document.create_time),
        _time_or_never(document.update_time),
        read_time,
        document.ByteSize(),
    )


def path_of(name: str) -> str:
    """The path in a document's full name."""
    return name.partition("/documents/")[2]


def time_of(stamp: Any) -> DatetimeWithNanoseconds:
    """A time of the server's clock.  Raises ValueError or OverflowError if it is out of range."""
    return DatetimeWithNanoseconds.from_timestamp_pb(stamp)


def _time_or_never(stamp: Any) -> DatetimeWithNanoseconds:
    try:
        return time_of(stamp)
    except (ValueError, OverflowError):
        return NEVER


def value_of(value: Any) -> Any:
    """Decode the protobuf message `google.firestore.v1.Value` to a Python value or one of the types above.

    Never raises: protobuf itself bounds the nesting (100 messages).
    """
    match kind := value.WhichOneof("value_type"):
        case "null_value" | None:
            return None
        case "string_value" | "boolean_value" | "integer_value" | "double_value" | "bytes_value":
            return getattr(value, kind)
        case "timestamp_value":
            try:
                return time_of(value.timestamp_value)
            except (ValueError, OverflowError):
                return Unreadable("timestamp")
        case "reference_value":
            return Reference(value.reference_value)
        case "geo_point_value":
            return GeoPoint(value.geo_point_value.latitude, value.geo_point_value.longitude)
        case "array_value":
            return [value_of(each) for each in value.array_value.values]
        case "map_value":
            return {name: value_of(each) for name, each in value.map_value.fields.items()}
    return Unreadable(str(kind))
