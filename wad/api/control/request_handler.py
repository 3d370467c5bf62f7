"""The port through which a connection calls operations, and the adapter for clients of the control socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final, Protocol

from wad.api import dispatch
from wad.api.context import Context
from wad.api.operation import Access

MAX_REQUESTS: Final = 64
"""The requests in flight on one connection."""


class RequestHandler(Protocol):
    """Calls operations on behalf of a client."""

    max_requests: int
    """The limit of requests in flight on one connection."""
    stopping: bytes
    """The frame that the client gets when the daemon begins to stop; empty for none."""
    shared: bool
    """Whether the client serves many callers: a large reply of one must not cost all of them the connection."""

    async def call(self, name: str, params: object) -> object:
        """The reply of an operation.  Raises only WadError."""
        ...

    def stream(self, name: str, params: object) -> AsyncGenerator[object, None]:
        """The items of an operation that streams its reply.  Raises only WadError."""
        ...

    def ended(self) -> None:
        """Called when the client has disconnected."""
        ...


class SocketRequestHandler:
    """Calls operations for a client of the control socket, whose access follows from its peer credentials."""

    max_requests = MAX_REQUESTS
    stopping = b""
    shared = False

    def __init__(self, context: Context, access: Access) -> None:
        self._context = context
        self._access = access

    async def call(self, name: str, params: object) -> object:
        """The reply of an operation.  Raises only WadError."""
        return await dispatch.call(self._context, name, params, self._access)

    def stream(self, name: str, params: object) -> AsyncGenerator[object, None]:
        """The items of an operation that streams its reply.  Raises only WadError."""
        return dispatch.stream(self._context, name, params, self._access)

    def ended(self) -> None:
        """Nothing to do."""
