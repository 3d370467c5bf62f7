"""Which pages of the web may ask: those whose origin is configured, and nobody else's."""

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
    """Starlette's, for the origins of `http.cors_origins`; a preflight has no body, whether it means yes or no."""

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
        """The answer to what a browser asks before it lets a page ask; without the origin's name it means no."""
        found = super().preflight_response(request_headers)
        names = ("content-length", "content-type")
        headers = {name: value for name, value in found.headers.items() if name not in names}
        return Response(status_code=204, headers=headers)


def methods() -> Response:
    """The answer to OPTIONS that is no preflight: it names no origin, and so lets no page ask."""
    headers = {
        "access-control-allow-methods": ", ".join(_METHODS),
        "access-control-allow-headers": ", ".join(_HEADERS),
        "access-control-max-age": "600",
    }
    return Response(status_code=204, headers=headers)


def pattern(origins: str) -> str | None:
    """A regular expression for the configured origins; None where there are none."""
    patterns = [_one(origin) for origin in re.split(r"[\s,]+", origins) if origin]
    return "|".join(patterns) if patterns else None


def _one(origin: str) -> str:
    return re.escape(origin).replace(r"\*\.", r"([a-z0-9-]+\.)+")
