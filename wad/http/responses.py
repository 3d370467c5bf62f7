"""Builds responses: uncached JSON documents, and error responses from WadErrors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from wad.core.errors import LegacyRefusal, WadError

_encode: Final = msgspec.json.Encoder().encode
_NO_STORE: Final = {"cache-control": "no-store"}
_BEARER: Final = "Bearer"
_BASIC: Final = 'Basic realm="wad: any name, the token as password"'


def document(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON response."""
    return raw(_encode(content), "application/json", status, headers)


def raw(
    body: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with any content type."""
    # As a header: Starlette would add a second charset to the media type of a text.
    return Response(
        body, status, headers={"content-type": media_type, **_NO_STORE, **(headers or {})}
    )


def failure(
    status: int,
    code: str,
    message: str,
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error response in the apps' format: JSON with a `message`."""
    content = {"success": False, "error": code, "message": message, **(more or {})}
    return document(content, status, headers)


def refusal(
    error: WadError, *, browser: bool = False, about: Mapping[str, str] | None = None
) -> Response:
    """The response for an error; `about` are further fields about its request.

    With `browser`, a 401 makes the browser prompt for a token.
    """
    headers: dict[str, str] = {}
    more: Mapping[str, Any] = {"hint": error.hint} if error.hint else {}
    if isinstance(error, LegacyRefusal):
        more = error.details
        if type(wait := more.get("retryAfterSeconds")) is int:
            headers["retry-after"] = str(wait)
    if error.http_status == 401:
        headers["www-authenticate"] = _BASIC if browser else _BEARER
    if error.code == "too_many_wrong_tokens":
        headers["connection"] = "close"
    return failure(error.http_status, error.code, str(error), {**(about or {}), **more}, headers)
