"""A gRPC proxy between a daemon and the emulator that counts documents as Firestore bills them.

Reads: every document in a response, one for a query that finds nothing, one for each change that is sent to a listener.
Writes: every write of a commit.  The fence's check is a write like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from google.cloud.firestore_v1.types.firestore import (
    BatchGetDocumentsResponse,
    CommitRequest,
    ListenResponse,
    RunQueryResponse,
)

from tests.firestore.grpc_proxy import Observer, a_grpc_proxy

_CHANGES = ("document_change", "document_delete", "document_remove")


@dataclass
class Bill(Observer):
    """The counts since the last `clear`; `calls` by name."""

    reads: int = 0
    writes: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def clear(self) -> None:
        """Reset the counts."""
        with self._lock:
            self.reads = self.writes = 0
            self.calls.clear()

    def called(self, name: str, first: bytes) -> None:
        """Count one call."""
        with self._lock:
            self.calls[name] += 1

    def requested(self, name: str, request: bytes) -> None:
        """Count the cost of a request."""
        if name == "Commit":
            with self._lock:
                self.writes += len(CommitRequest.deserialize(request).writes)

    def answered(self, name: str, response: bytes) -> None:
        """Count the cost of a response."""
        reads = 0
        match name:
            case "BatchGetDocuments":
                found = BatchGetDocumentsResponse.pb(
                    BatchGetDocumentsResponse.deserialize(response)
                )
                reads = int(found.WhichOneof("result") is not None)
            case "RunQuery":
                reads = int(bool(RunQueryResponse.deserialize(response).document.name))
            case "Listen":
                sent = ListenResponse.pb(ListenResponse.deserialize(response))
                reads = int(sent.WhichOneof("response_type") in _CHANGES)
        with self._lock:
            self.reads += reads


@contextmanager
def a_counter(target: int) -> Iterator[tuple[str, Bill]]:
    """HOST:PORT of a proxy to 127.0.0.1:`target`, and its counts."""
    bill = Bill()
    with a_grpc_proxy(f"127.0.0.1:{target}", bill) as address:
        yield address, bill
