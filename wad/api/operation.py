"""What an operation is: declared once, seen through three doors (socket, wadctl, HTTP).

An operation is an async function `(context, request) -> reply` with annotated msgspec Structs; its docstring's
first line is the help.  A field without a default is an argument of the wadctl command, one with a default an option;
its meaning stands in `Meta(description=...)`.  A handler that is an async generator streams its replies.
A request derives from `Params`, so that a misspelt field is an answer (bad_input) and never ignored.
This module imports no flow, store or engine, so that wadctl starts fast.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import msgspec

from wad.core.errors import UnknownOperation


class Access(IntEnum):
    """Who may ask: look, send and steer, or do what cannot be undone.  `api.peer` says who has which on the socket."""

    READ = 1
    OPERATE = 2
    ADMIN = 3


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of every request."""


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked.

    `command` are wadctl's words for it (empty: none); `confirm` is what wadctl asks before it does something that
    cannot be undone (empty: it does not ask).
    """

    name: str
    access: Access
    command: tuple[str, ...]
    leader_only: bool
    request: type[Params]
    reply: Any
    streaming: bool
    handler: Callable[[Any, Any], Any]
    confirm: str = ""

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
) -> Callable[[Callable[[Any, Any], Any]], Callable[[Any, Any], Any]]:
    """Declare an operation.  `leader_only`: the passive instance answers Passive in the handler's stead."""

    def register(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        hints = typing.get_type_hints(handler, include_extras=True)
        if name in _REGISTRY:
            raise ValueError(f"operation {name} is declared twice")
        if not issubclass(hints["request"], Params):
            raise TypeError(f"the request of operation {name} must derive from Params")
        _REGISTRY[name] = Operation(
            name=name,
            access=access,
            command=tuple(command.split()),
            leader_only=leader_only,
            request=hints["request"],
            reply=hints["return"],
            streaming=inspect.isasyncgenfunction(handler),
            handler=handler,
            confirm=confirm,
        )
        return handler

    return register


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
