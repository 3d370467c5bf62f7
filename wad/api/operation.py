"""Operations: each is declared once and available on the control socket, in wadctl and over HTTP.

An operation is an async function `(context, request) -> reply` with annotated msgspec Structs; the first line of its
docstring is the help text.  A request field without a default is an argument of the wadctl command, one with a default
an option, described by `Meta(description=...)`.  An async generator streams its replies.  A handler with a third
parameter `caller` gets the caller.
A request derives from `Params`, so that a misspelt field is an error (bad_input) and never ignored.
This module imports no flow, store or engine, so that wadctl starts fast.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cache
from typing import Any, Final, Literal, TypeVar

import msgspec

from wad.core.errors import UnknownOperation

H = TypeVar("H", bound=Callable[..., Any])

BODY_LIMIT: Final = 100 << 10
"""The usual limit of a body in bytes, as in the replaced backend (docs/internals/replaced-backend.md#limits)."""


class Access(IntEnum):
    """The access level that an operation requires: none, reading, sending and controlling, or administration.

    `api.control.peercred` determines a caller's level on the control socket, `api.callers` over HTTP.
    """

    ANYBODY = 0
    READ = 1
    OPERATE = 2
    ADMIN = 3


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base class of every request."""


class Limit(StrEnum):
    """The rate limits for one caller over HTTP: requests of one kind are counted together."""

    SEND = "messages"
    ACCOUNTS = "changes of accounts"
    QR = "QR codes"


@dataclass(frozen=True, slots=True)
class Route:
    """An HTTP route of an operation.

    `path` may hold `{name}`, a field of the request; `query` maps the names in the query string to fields; `body` is
    the type of a JSON body of at most `body_limit` bytes, whose fields are fields of the request.  `browser`: browsers
    may send the token as a password; `internal`: the token may be sent as X-Internal-Token.
    """

    method: str
    path: str
    body: Any = None
    body_limit: int = BODY_LIMIT
    query: Mapping[str, str] = field(default_factory=dict)
    browser: bool = False
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Http:
    """The HTTP access rules of an operation, which the daemon enforces.

    `access` applies where it is higher than the operation's own; `headerless`: the trusted networks of the
    configuration need no token.  `shared`: concurrent requests may get one answer, because it is the same for
    everybody; the daemon then sees one call without a caller, and counts none.
    """

    access: Access = Access.ANYBODY
    limit: Limit | None = None
    headerless: bool = False
    routes: tuple[Route, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Operation:
    """A declared operation.

    `command` is its wadctl command (empty: none); `confirm` is the warning with which wadctl asks for confirmation
    (empty: it does not ask).  `http` is None for an operation that HTTP does not offer.  `wants_caller`: the handler
    takes the `Caller` as a third argument.
    """

    name: str
    access: Access
    command: tuple[str, ...]
    leader_only: bool
    request: type[Params]
    reply: Any
    streaming: bool
    handler: Callable[..., Any]
    confirm: str = ""
    http: Http | None = None
    wants_caller: bool = False

    @property
    def http_access(self) -> Access:
        """The access level that it requires over HTTP."""
        return max(self.access, self.http.access if self.http is not None else Access.ADMIN)

    @property
    def cancellable(self) -> bool:
        """Whether it may be cancelled when its client disconnects.

        An operation that changes something always completes: half a removal would be worse than an unread reply.
        """
        return self.streaming or self.access is Access.READ

    @property
    def help(self) -> str:
        """The first line of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.handler) or ""


_REGISTRY: dict[str, Operation] = {}


def operation(
    name: str,
    *,
    access: Access,
    command: str = "",
    leader_only: bool = False,
    confirm: str = "",
    http: Http | Literal["plain"] | None = "plain",
    reply: Any = None,
) -> Callable[[H], H]:
    """Declare an operation.

    `leader_only`: a passive instance raises Passive instead of calling the handler.  `http`: "plain" offers it as
    `POST /api/operations/NAME`, None does not offer it over HTTP.  Streams are never offered over HTTP.  `reply`: the
    type of the reply where the handler returns a plain document.
    """

    def register(handler: H) -> H:
        hints = typing.get_type_hints(handler, include_extras=True)
        if name in _REGISTRY:
            raise ValueError(f"operation {name} is declared twice")
        if not issubclass(hints["request"], Params):
            raise TypeError(f"the request of operation {name} must derive from Params")
        streaming = inspect.isasyncgenfunction(handler)
        rules = _plain(name, access, hints["request"]) if http == "plain" else http
        if rules is not None and rules.shared:
            _check_shared(name, max(access, rules.access), rules, hints)
        _REGISTRY[name] = Operation(
            name=name,
            access=access,
            command=tuple(command.split()),
            leader_only=leader_only,
            request=hints["request"],
            reply=hints["return"] if reply is None else reply,
            streaming=streaming,
            handler=handler,
            confirm=confirm,
            http=None if streaming else rules,
            wants_caller="caller" in hints,
        )
        return handler

    return register


def _check_shared(name: str, access: Access, rules: Http, hints: Mapping[str, Any]) -> None:
    """Raises TypeError if the answer could depend on the caller."""
    depends = {
        "asks for rights": access is not Access.ANYBODY,
        "counts its callers": rules.limit is not None,
        "knows its caller": "caller" in hints,
        "has parameters": bool(msgspec.structs.fields(hints["request"])),
    }
    for what in (what for what, found in depends.items() if found):
        raise TypeError(f"operation {name} {what}, so its answers cannot be shared")


_MESSAGE_PREFIXES: Final = ("messages.", "threads.", "outbox.")
_FOR_VIEWERS: Final = ("status", "version")


def _plain(name: str, access: Access, request: type[Params]) -> Http:
    """The default HTTP rules.  Only administrators may use account operations: their replies contain QR codes."""
    about_messages = name.startswith(_MESSAGE_PREFIXES)
    limit = Limit.SEND if about_messages else Limit.ACCOUNTS
    return Http(
        access=Access.READ if about_messages or name in _FOR_VIEWERS else Access.ADMIN,
        limit=None if access <= Access.READ else limit,
        routes=(Route("POST", f"/api/operations/{name}", body=request),),
    )


@cache
def operations() -> dict[str, Operation]:
    """Every operation by name; modules in `operations/` are discovered automatically."""
    package = importlib.import_module("wad.api.operations")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_REGISTRY.items()))


def find(name: str) -> Operation:
    """The operation of this name.  Raises UnknownOperation."""
    try:
        return operations()[name]
    except KeyError:
        raise UnknownOperation(f"there is no operation {name!r}") from None
