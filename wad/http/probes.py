"""Probes: their paths, and their responses, each of which many requests share."""

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
"""The operation of each path.  All of them allow GET and HEAD, without authentication."""


class ProbeResponses:
    """Builds the HTTP responses of one probe.  The last one is cached: the next request often shares it."""

    def __init__(self, name: str) -> None:
        self._read_own, self._add = _REQUEST_FIELDS.get(name, (_none, _unchanged))
        self._status = _STATUS.get(name, _ok)
        self._last: tuple[Document, str | None, Response] | None = None

    def response(self, found: Document, request: Request) -> Response:
        """The daemon's reply with the fields that depend on this request."""
        own = self._read_own(request)
        if (last := self._last) is not None and last[0] is found and last[1] == own:
            return last[2]
        response = document(self._add(found, own), self._status(found))
        self._last = found, own, response
        return response


def _none(request: Request) -> None:
    return None


def _unchanged(found: Document, own: str | None) -> Document:
    return found


def _with_request_id(found: Document, ident: str | None) -> Document:
    return found | {"requestId": ident} if ident else found


def _with_base_url(found: Document, url: str | None) -> Document:
    return found | {"service": found["service"] | {"backendBaseUrl": url}}


_REQUEST_FIELDS: Final[
    Mapping[str, tuple[Callable[[Request], str | None], Callable[[Document, str | None], Document]]]
] = {
    "probe.health": (request_id, _with_request_id),
    "probe.dashboard": (base_url, _with_base_url),
}
"""How to read the value that a reply repeats from its request, and how to add it."""


def _ok(found: Document) -> int:
    return 200


_STATUS: Final[Mapping[str, Callable[[Document], int]]] = {
    "probe.health": lambda found: 200 if found["ok"] else 503,
    "probe.readyz": lambda found: 200 if found["status"] == "ready" else 503,
}
