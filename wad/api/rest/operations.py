"""Every operation over HTTP, as it is: `POST /api/operations/NAME`, its parameters as JSON, its reply as JSON.

Operations that stream, or that carry bytes, stay on the socket.  What is not about messages is for administrators here,
as the replies about accounts hold their codes.
"""

from __future__ import annotations

from typing import Final

from wad.api import dispatch
from wad.api.operation import Access, Operation, operations
from wad.api.rest.exchange import Answer, document
from wad.api.rest.limits import Limit
from wad.api.rest.routing import Call, Handler, Route

_OF_MESSAGES: Final = ("messages.", "threads.", "outbox.")
_SOCKET_ONLY: Final = ("media.put",)


def _handler(name: str) -> Handler:
    async def ask(call: Call) -> Answer:
        params = await call.request.content(dict[str, object])
        return document(200, await dispatch.call(call.context, name, params, call.access))

    return ask


def _route(operation: Operation) -> Route:
    of_messages = operation.name.startswith(_OF_MESSAGES)
    limit = Limit.SEND if of_messages else Limit.ACCOUNTS
    return Route(
        "POST",
        f"/api/operations/{operation.name}",
        operation.name,
        _handler(operation.name),
        least=Access.READ if of_messages else Access.ADMIN,
        limit=None if operation.access is Access.READ else limit,
        body=operation.request,
    )


def routes() -> tuple[Route, ...]:
    """A route for each."""
    return tuple(
        _route(operation)
        for operation in operations().values()
        if not operation.streaming and operation.name not in _SOCKET_ONLY
    )
