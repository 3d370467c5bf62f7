"""The private names of Google's library that wad uses; no other module uses any.

The public calls decode all documents of a response at once, so that one damaged document fails all of them; wad calls
the generated gRPC interface below them.  `tests/firestore/test_internals.py` detects a change; setup.cfg bounds the
version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.cloud.firestore_v1 import Client
from google.cloud.firestore_v1.base_query import BaseQuery
from google.cloud.firestore_v1.services.firestore import FirestoreClient
from google.cloud.firestore_v1.types.query import StructuredQuery


def database_name(client: Client) -> str:
    """`projects/PROJECT/databases/DATABASE`."""
    return str(client._database_string)


def document_name(client: Client, path: str) -> str:
    """The full name of the document at this path."""
    return f"{database_name(client)}/documents/{path}"


def api(client: Client) -> FirestoreClient:
    """The generated gRPC interface."""
    found: FirestoreClient = client._firestore_api
    return found


def metadata(client: Client) -> Sequence[tuple[str, str]]:
    """The metadata of each call, which names the database."""
    found: Sequence[tuple[str, str]] = client._rpc_metadata
    return found


def listen(client: Client, requests: Any) -> Any:
    """Open a stream of changes.  The generated interface's own `listen` cannot be cancelled."""
    transport: Any = api(client)._transport
    return transport.listen(requests, metadata=metadata(client))


def client_of(query: BaseQuery) -> Client:
    """The client that created the query."""
    found: Client = query._client
    return found


def on_the_wire(query: BaseQuery) -> tuple[str, StructuredQuery]:
    """The name of the query's parent, and the query as a protobuf message."""
    parent, _ = query._parent._parent_info()
    return parent, query._to_protobuf()


def order_of(query: BaseQuery) -> list[str]:
    """The names of the fields by which the query sorts."""
    return [order.field.field_path for order in query._orders]
