"""A gRPC proxy between a daemon and the emulator that counts documents as Firestore bills them.

Reads: every document that an answer names, one for a query that finds nothing, one for each change that a listener is
told.  Writes: every write of a commit.  The fence's check is a write like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import grpc
from google.cloud.firestore_v1.types.firestore import (
    BatchGetDocumentsResponse,
    CommitRequest,
    ListenResponse,
    RunQueryResponse,
)

_SERVICE = "/google.firestore.v1.Firestore/"
_TOLD = ("document_change", "document_delete", "document_remove")


@dataclass
class Bill:
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

    def call(self, name: str) -> None:
        """Count one call."""
        with self._lock:
            self.calls[name] += 1

    def asked(self, name: str, request: bytes) -> None:
        """Count the cost of a request."""
        if name == "Commit":
            with self._lock:
                self.writes += len(CommitRequest.deserialize(request).writes)

    def answered(self, name: str, answer: bytes) -> None:
        """Count the cost of a response."""
        reads = 0
        match name:
            case "BatchGetDocuments":
                found = BatchGetDocumentsResponse.pb(BatchGetDocumentsResponse.deserialize(answer))
                reads = int(found.WhichOneof("result") is not None)
            case "RunQuery":
                reads = int(bool(RunQueryResponse.deserialize(answer).document.name))
            case "Listen":
                told = ListenResponse.pb(ListenResponse.deserialize(answer))
                reads = int(told.WhichOneof("response_type") in _TOLD)
        with self._lock:
            self.reads += reads


class _Passing(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Forwards every call of the service as the bidirectional stream that each of them is in gRPC."""

    def __init__(self, channel: Any, bill: Bill) -> None:
        self._channel = channel
        self._bill = bill

    def service(self, details: Any) -> Any:
        """The handler of one method."""
        name = details.method.removeprefix(_SERVICE)

        def serve(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            self._bill.call(name)
            onward = self._channel.stream_stream(details.method)
            told = [pair for pair in context.invocation_metadata() if not pair[0].startswith(":")]
            answers = onward(self._noted(name, requests), metadata=told)
            context.add_callback(answers.cancel)
            try:
                for answer in answers:
                    self._bill.answered(name, answer)
                    yield answer
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(serve)

    def _noted(self, name: str, requests: Iterator[bytes]) -> Iterator[bytes]:
        with suppress(grpc.RpcError):  # the caller has hung up
            for request in requests:
                self._bill.asked(name, request)
                yield request


@contextmanager
def a_counter(target: int) -> Iterator[tuple[str, Bill]]:
    """HOST:PORT of a proxy to 127.0.0.1:`target`, and its counts."""
    bill = Bill()
    with (
        grpc.insecure_channel(f"127.0.0.1:{target}") as channel,
        ThreadPoolExecutor(max_workers=32) as pool,
    ):
        server = grpc.server(pool, handlers=[_Passing(channel, bill)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}", bill
        finally:
            server.stop(grace=0).wait()
