"""Operations for the HTTP process itself: its settings, and whether a caller has access."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from wad.api.caller import Caller
from wad.api.context import Context
from wad.api.operation import Access, Http, Params, operation
from wad.core.errors import BadInput


class Introduction(Params, frozen=True):
    """The introduction of an HTTP process; `listening` are its addresses, as 127.0.0.1:8080."""

    pid: int = 0
    version: Annotated[str, Meta(max_length=100)] = ""
    listening: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=16)] = ()


class HttpStartFailure(Params, frozen=True):
    """Why an HTTP process cannot start, in the form of an error."""

    code: Annotated[str, Meta(max_length=100)]
    message: Annotated[str, Meta(max_length=2000)]
    hint: Annotated[str, Meta(max_length=2000)] = ""


class PublicSettings(msgspec.Struct, frozen=True):
    """The settings that an HTTP process needs; none of them is secret."""

    cors_origins: str
    enabled: bool


class Admission(Params, frozen=True):
    """The operation that the caller requests, and the account that the request names; empty if it names none."""

    operation: str
    account: str = ""


@operation("http.settings", access=Access.ANYBODY, http=Http())
async def settings(context: Context, request: Introduction) -> PublicSettings:
    """Return the settings of the HTTP process."""
    http = context.loaded.config.http
    return PublicSettings(http.cors_origins, http.enabled)


@operation("http.admit", access=Access.ANYBODY, http=Http())
async def admit(context: Context, request: Admission, caller: Caller) -> None:
    """Check whether the caller has access to an operation, before the request's body is parsed.

    `wad.api.http_process.calls` handles it, since it has the credentials.
    """
    raise BadInput("only an HTTP process can use this operation")


@operation("http.failed", access=Access.ANYBODY, http=Http())
async def failed(context: Context, request: HttpStartFailure) -> None:
    """Report why an HTTP process cannot start; `api/http_process` passes it to the supervisor."""
