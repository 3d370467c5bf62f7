"""Which pages of the web may ask: those whose origin is configured, and nobody else's."""

from __future__ import annotations

import re
from typing import Final

from wad.api.rest.exchange import Answer, Header, Request

_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_HEADERS: Final = (
    b"Authorization, Content-Type, X-Request-Id, X-Correlation-Id, X-Firebase-AppCheck"
)
_VARY: Final[Header] = (b"vary", b"Origin")


class Cors:
    """The configured origins."""

    def __init__(self, origins: str) -> None:
        patterns = [_pattern(origin) for origin in re.split(r"[\s,]+", origins) if origin]
        self._allowed = re.compile("|".join(patterns)) if patterns else None

    def headers(self, request: Request) -> tuple[Header, ...]:
        """What every answer to a page of the web says besides."""
        if self._allowed is None:
            return ()
        origin = request.header(b"origin")
        if not self._allowed.fullmatch(origin.decode("latin-1")):
            return (_VARY,)
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", b"Retry-After"),
            _VARY,
        )

    def preflight(self) -> Answer:
        """What a browser asks before it lets a page ask; without `headers` it means no."""
        return Answer(
            204,
            b"",
            headers=(
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _HEADERS),
                (b"access-control-max-age", b"600"),
            ),
        )


def _pattern(origin: str) -> str:
    return re.escape(origin).replace(r"\*\.", r"([a-z0-9-]+\.)+")
