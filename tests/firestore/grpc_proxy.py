"""A gRPC proxy between a client and the emulator, whose calls a test observes or refuses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final, NamedTuple

import grpc

_SERVICE: Final = "/google.firestore.v1.Firestore/"


class Refusal(NamedTuple):
    """The error that is returned instead of a response."""

    code: grpc.StatusCode
    why: str


class Observer:
    """Called with everything that passes; this one does nothing."""

    def called(self, name: str, first: bytes) -> Refusal | None:
        """A call begins with this request; a refusal is returned to the client, and nothing is forwarded."""
        return None

    def requested(self, name: str, request: bytes) -> None:
        """A request passes, the first one included."""

    def answered(self, name: str, response: bytes) -> None:
        """A response passes."""


class _Forwarding(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Forwards every call of the service as the bidirectional stream that each of them is in gRPC."""

    def __init__(self, channel: Any, observer: Observer) -> None:
        self._channel = channel
        self._observer = observer

    def service(self, details: Any) -> Any:
        """The handler of one method."""
        name = details.method.removeprefix(_SERVICE)

        def serve(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            first = next(requests)
            refusal = self._observer.called(name, first)
            if refusal is not None:
                context.abort(refusal.code, refusal.why)
            forward = self._channel.stream_stream(details.method)
            metadata = [
                pair for pair in context.invocation_metadata() if not pair[0].startswith(":")
            ]
            responses = forward(self._observed(name, chain([first], requests)), metadata=metadata)
            context.add_callback(responses.cancel)
            try:
                for response in responses:
                    self._observer.answered(name, response)
                    yield response
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(serve)

    def _observed(self, name: str, requests: Iterator[bytes]) -> Iterator[bytes]:
        with suppress(grpc.RpcError):  # the client has hung up
            for request in requests:
                self._observer.requested(name, request)
                yield request


@contextmanager
def a_grpc_proxy(target: str, observer: Observer) -> Iterator[str]:
    """HOST:PORT of a proxy that forwards to HOST:PORT `target`."""
    with (
        grpc.insecure_channel(target) as channel,
        ThreadPoolExecutor(max_workers=32) as pool,
    ):
        server = grpc.server(pool, handlers=[_Forwarding(channel, observer)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(grace=0).wait()
