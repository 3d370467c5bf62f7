"""A gRPC proxy between a client and the emulator that answers some calls itself, with an error of Google's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final, NamedTuple

import grpc
from google.cloud.firestore_v1.types.firestore import RunAggregationQueryRequest, RunQueryRequest

_SERVICE: Final = "/google.firestore.v1.Firestore/"
_DESCENDING: Final = 2  # StructuredQuery.Direction
LINK: Final = (
    "https://console.firebase.google.com/v1/r/project/demo/firestore/indexes?create_exemption=Cg"
)


class Refusal(NamedTuple):
    """The error that is returned instead."""

    code: grpc.StatusCode
    why: str


Judge = Callable[[str, bytes], Refusal | None]
"""Whether a call, by its name and first request, is refused."""

NO_INDEX: Final = Refusal(
    grpc.StatusCode.FAILED_PRECONDITION,
    "The query requires a COLLECTION_GROUP_DESC index for collection messages and field tsClient. You can create it"
    f" here: {LINK}",
)
DENIED: Final = Refusal(grpc.StatusCode.PERMISSION_DENIED, "Missing or insufficient permissions.")


def no_descending_index(name: str, request: bytes) -> Refusal | None:
    """Refuse as a database whose index has only one direction."""
    return NO_INDEX if _DESCENDING in _directions(name, request) else None


def no_index(name: str, request: bytes) -> Refusal | None:
    """Refuse as a database without indexes."""
    return NO_INDEX if _directions(name, request) else None


def denied(name: str, request: bytes) -> Refusal | None:
    """Refuse as for a service account without permissions."""
    return DENIED


def _directions(name: str, request: bytes) -> list[int]:
    """The directions in which a query of messages sorts by time."""
    match name:
        case "RunQuery":
            query = RunQueryRequest.deserialize(request).structured_query
        case "RunAggregationQuery":
            asked = RunAggregationQueryRequest.deserialize(request)
            query = asked.structured_aggregation_query.structured_query
        case _:
            return []
    return [
        int(order.direction) for order in query.order_by if order.field.field_path == "tsClient"
    ]


class _Passing(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, channel: Any, judge: Judge) -> None:
        self._channel = channel
        self._judge = judge

    def service(self, details: Any) -> Any:
        """The handler of one method."""
        name = details.method.removeprefix(_SERVICE)

        def serve(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            first = next(requests)
            refusal = self._judge(name, first)
            if refusal is not None:
                context.abort(refusal.code, refusal.why)
            onward = self._channel.stream_stream(details.method)
            told = [pair for pair in context.invocation_metadata() if not pair[0].startswith(":")]
            answers = onward(_until_hung_up(chain([first], requests)), metadata=told)
            context.add_callback(answers.cancel)
            try:
                yield from answers
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(serve)


def _until_hung_up(requests: Iterator[bytes]) -> Iterator[bytes]:
    with suppress(grpc.RpcError):
        yield from requests


@contextmanager
def refusing(target: str, judge: Judge) -> Iterator[str]:
    """HOST:PORT of a proxy that forwards to `target` what is not refused."""
    with (
        grpc.insecure_channel(target) as channel,
        ThreadPoolExecutor(max_workers=32) as pool,
    ):
        server = grpc.server(pool, handlers=[_Passing(channel, judge)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(grace=0).wait()
