"""CORS: only web pages of the configured origins may use the API."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HEADERS: Final = (
    "Authorization",
    "Content-Type",
    "X-Request-Id",
    "X-Correlation-Id",
    "X-Firebase-AppCheck",
)


class Origins(CORSMiddleware):
    """Starlette's middleware for the origins of `http.cors_origins`; preflight responses have no body."""

    def __init__(self, app: ASGIApp, allowed: str) -> None:
        """`allowed` is a regular expression."""
        super().__init__(
            app,
            allow_origin_regex=allowed,
            allow_methods=_METHODS,
            allow_headers=_HEADERS,
            expose_headers=("Retry-After",),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """The response to a preflight request; without the origin in its headers the browser refuses."""
        found = super().preflight_response(request_headers)
        names = ("content-length", "content-type")
        headers = {name: value for name, value in found.headers.items() if name not in names}
        return Response(status_code=204, headers=headers)


def methods() -> Response:
    """The response to OPTIONS without a preflight; it names no origin, so it allows no page."""
    headers = {
        "access-control-allow-methods": ", ".join(_METHODS),
        "access-control-allow-headers": ", ".join(_HEADERS),
        "access-control-max-age": "600",
    }
    return Response(status_code=204, headers=headers)


def pattern(origins: str) -> str | None:
    """A regular expression for the configured origins; None without any."""
    patterns = [_one(origin) for origin in re.split(r"[\s,]+", origins) if origin]
    return "|".join(patterns) if patterns else None


def _one(origin: str) -> str:
    return re.escape(origin).replace(r"\*\.", r"([a-z0-9-]+\.)+")
