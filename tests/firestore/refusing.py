"""A gRPC proxy between a client and the emulator that answers some calls itself, with an error of Google's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import grpc
from google.cloud.firestore_v1.types.firestore import RunAggregationQueryRequest, RunQueryRequest

from tests.firestore.grpc_proxy import Observer, Refusal, a_grpc_proxy

_DESCENDING: Final = 2  # StructuredQuery.Direction
LINK: Final = (
    "https://console.firebase.google.com/v1/r/project/demo/firestore/indexes?create_exemption=Cg"
)


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


class _Refusing(Observer):
    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def called(self, name: str, first: bytes) -> Refusal | None:
        return self._judge(name, first)


def refusing(target: str, judge: Judge) -> AbstractContextManager[str]:
    """HOST:PORT of a proxy that forwards to `target` what is not refused."""
    return a_grpc_proxy(target, _Refusing(judge))
