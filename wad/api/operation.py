"""What an operation is: declared once, seen over the socket, in wadctl and over HTTP.

An operation is an async function `(context, request) -> reply` with annotated msgspec Structs; its docstring's
first line is the help.  A field without a default is an argument of the wadctl command, one with a default an option;
its meaning stands in `Meta(description=...)`.  A handler that is an async generator streams its replies.  One with a
third parameter `caller` is told who asks.
A request derives from `Params`, so that a misspelt field is an answer (bad_input) and never ignored.
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


class Access(IntEnum):
    """Who may ask: anybody, or who may look, send and steer, or do what cannot be undone.

    `api.peer` says who has which on the control socket, `api.callers` over HTTP.
    """

    ANYBODY = 0
    READ = 1
    OPERATE = 2
    ADMIN = 3


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of every request."""


class Limit(StrEnum):
    """What is counted together when one caller changes something over HTTP."""

    SEND = "messages"
    ACCOUNTS = "changes of accounts"
    QR = "QR codes"


@dataclass(frozen=True, slots=True)
class Route:
    """How an operation is asked over HTTP.

    `path` may hold `{name}`, a field of the request; `query` gives the fields by their names behind the question mark;
    `body` is the type of a JSON body, whose fields are fields of the request.  `browser`: a person may open it, and the
    token may come as a password; `internal`: it may come as X-Internal-Token.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    browser: bool = False
    internal: bool = False


@dataclass(frozen=True, slots=True)
class Http:
    """Who may ask an operation over HTTP, which the daemon decides whatever the HTTP process says.

    `access` is asked where it is more than what the operation asks; `headerless`: the trusted networks of the
    configuration need no token for it.
    """

    access: Access = Access.ANYBODY
    limit: Limit | None = None
    headerless: bool = False
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked.

    `command` are wadctl's words for it (empty: none); `confirm` is what wadctl asks before it does something that
    cannot be undone (empty: it does not ask).  `http` is None for what cannot be asked over HTTP.  `wants_caller`: the
    handler is given the `Caller` besides.
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
        """Who may ask it over HTTP."""
        return max(self.access, self.http.access if self.http is not None else Access.ADMIN)

    @property
    def cancellable(self) -> bool:
        """Whether it may be cut off when nobody waits for the answer any more.

        What changes something runs to its end instead: half a removal would be worse than one that nobody saw.
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
) -> Callable[[H], H]:
    """Declare an operation.

    `leader_only`: the passive instance answers Passive in the handler's stead.  `http` is how it is asked over HTTP:
    "plain" by `POST /api/operations/NAME`, None not at all.  A stream is never asked over HTTP.
    """

    def register(handler: H) -> H:
        hints = typing.get_type_hints(handler, include_extras=True)
        if name in _REGISTRY:
            raise ValueError(f"operation {name} is declared twice")
        if not issubclass(hints["request"], Params):
            raise TypeError(f"the request of operation {name} must derive from Params")
        streaming = inspect.isasyncgenfunction(handler)
        rules = _plain(name, access, hints["request"]) if http == "plain" else http
        _REGISTRY[name] = Operation(
            name=name,
            access=access,
            command=tuple(command.split()),
            leader_only=leader_only,
            request=hints["request"],
            reply=hints["return"],
            streaming=streaming,
            handler=handler,
            confirm=confirm,
            http=None if streaming else rules,
            wants_caller="caller" in hints,
        )
        return handler

    return register


_OF_MESSAGES: Final = ("messages.", "threads.", "outbox.")


def _plain(name: str, access: Access, request: type[Params]) -> Http:
    """What is not about messages is for administrators over HTTP, as the replies about accounts hold their codes."""
    of_messages = name.startswith(_OF_MESSAGES)
    limit = Limit.SEND if of_messages else Limit.ACCOUNTS
    return Http(
        access=Access.READ if of_messages else Access.ADMIN,
        limit=None if access <= Access.READ else limit,
        routes=(Route("POST", f"/api/operations/{name}", body=request),),
    )


@cache
def operations() -> dict[str, Operation]:
    """Every operation by name; a new module in `operations/` is found by itself."""
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
