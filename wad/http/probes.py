"""Probes: the paths that anybody may ask, and their responses, each of which many requests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from wad.http.requests import base_url, request_id
from wad.http.responses import document

Document = dict[str, Any]

PROBES: Final = {
    "/health": "probe.health",
    "/healthz": "probe.healthz",
    "/ready": "probe.ready",
    "/readyz": "probe.readyz",
    "/diag": "probe.diag",
    "/api/status/dashboard": "probe.dashboard",
    "/health/detailed": "probe.detailed",
}
"""The operation behind each path.  All are for GET and HEAD, and ask nobody who they are."""


class ProbeResponses:
    """Makes the HTTP responses of one probe.  The last one is kept: the next request often shares it."""

    def __init__(self, name: str) -> None:
        self._own, self._put = _OWN.get(name, (_nothing, _as_it_is))
        self._status = _STATUS.get(name, _ok)
        self._last: tuple[Document, str | None, Response] | None = None

    def response(self, found: Document, request: Request) -> Response:
        """What the daemon said, with what this request has of its own in it."""
        own = self._own(request)
        if (last := self._last) is not None and last[0] is found and last[1] == own:
            return last[2]
        response = document(self._put(found, own), self._status(found))
        self._last = found, own, response
        return response


def _nothing(request: Request) -> None:
    return None


def _as_it_is(found: Document, own: str | None) -> Document:
    return found


def _named(found: Document, ident: str | None) -> Document:
    return found | {"requestId": ident} if ident else found


def _reached(found: Document, url: str | None) -> Document:
    return found | {"service": found["service"] | {"backendBaseUrl": url}}


_OWN: Final[
    Mapping[str, tuple[Callable[[Request], str | None], Callable[[Document, str | None], Document]]]
] = {
    "probe.health": (request_id, _named),
    "probe.dashboard": (base_url, _reached),
}
"""What an answer repeats of its request, and where."""


def _ok(found: Document) -> int:
    return 200


_STATUS: Final[Mapping[str, Callable[[Document], int]]] = {
    "probe.health": lambda found: 200 if found["ok"] else 503,
    "probe.readyz": lambda found: 200 if found["status"] == "ready" else 503,
}
