"""What the HTTP process asks for itself: its settings, and whether a caller would be let in."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.caller import Caller
from wad.api.context import Context
from wad.api.operation import Access, Http, Params, operation
from wad.core.errors import BadInput


class Introduction(Params, frozen=True):
    """What an HTTP process says of itself; `listening` are its addresses, as 127.0.0.1:8080."""

    pid: int = 0
    version: Annotated[str, Meta(max_length=100)] = ""
    listening: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=16)] = ()


class HttpStartFailure(Params, frozen=True):
    """Why an HTTP process cannot begin, as an error crosses a socket."""

    code: Annotated[str, Meta(max_length=100)]
    message: Annotated[str, Meta(max_length=2000)]
    hint: Annotated[str, Meta(max_length=2000)] = ""


class PublicSettings(msgspec.Struct, frozen=True):
    """The settings that an HTTP process needs; none is a secret."""

    cors_origins: str
    enabled: bool


class Admission(Params, frozen=True):
    """The operation that is meant."""

    operation: str


@operation("http.settings", access=Access.ANYBODY, http=Http())
async def settings(context: Context, request: Introduction) -> PublicSettings:
    """Say what an HTTP process needs to know."""
    http = context.loaded.config.http
    return PublicSettings(http.cors_origins, http.enabled)


@operation("http.admit", access=Access.ANYBODY, http=Http())
async def admit(context: Context, request: Admission, caller: Caller) -> None:
    """Whether the caller may ask an operation: before the caller hears that the request cannot be read.

    `wad.api.http_process.calls` answers it, which alone knows the proofs.
    """
    raise BadInput("only an HTTP process can ask this")


@operation("http.failed", access=Access.ANYBODY, http=Http())
async def failed(context: Context, request: HttpStartFailure) -> None:
    """Hear why an HTTP process cannot begin; `wad.api.http_process.calls` keeps it for who started that process."""
