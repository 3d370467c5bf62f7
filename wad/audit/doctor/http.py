"""Asking the daemon over HTTP, as a probe would."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from wad.audit.doctor.facts import HttpAnswer
from wad.core.decoding import decoding
from wad.core.errors import InvalidData

_PATIENCE: Final = 5.0  # seconds
_ALTOGETHER: Final = 15.0  # seconds, for who answers byte by byte
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LARGEST: Final = 8 << 20  # bytes


def get(address: str, port: int, path: str) -> HttpAnswer:
    """One answer, whatever it is."""
    host = _ANY.get(address, address)
    return _get(http.client.HTTPConnection(host, port, timeout=_PATIENCE), path)


def _get(connection: http.client.HTTPConnection, path: str) -> HttpAnswer:
    begun = time.monotonic()
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = _body(response, begun + _ALTOGETHER)
        status = response.status
    except (OSError, http.client.HTTPException) as error:
        return HttpAnswer(0, error=str(error) or type(error).__name__)
    finally:
        connection.close()
    seconds = time.monotonic() - begun
    try:
        with decoding("the answer"):
            document = json.loads(body)
    except InvalidData:
        document = None
    return HttpAnswer(status, document if isinstance(document, dict) else None, seconds=seconds)


def _body(response: http.client.HTTPResponse, until: float) -> bytes:
    """What comes until then, and no more than is sensible."""
    parts, size = [], 0
    while size < _LARGEST and time.monotonic() < until and (part := response.read1(1 << 16)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def get_url(url: str) -> HttpAnswer:
    """The answer of a URL, http or https."""
    try:
        with decoding("the address"):
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
    except InvalidData:
        return HttpAnswer(0, error=f"{url!r:.200} is no address")
    if not host or parts.scheme not in ("http", "https"):
        return HttpAnswer(0, error=f"{url!r:.200} is no address")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return _get(kind(host, port, timeout=_PATIENCE), parts.path)


def burst(address: str, port: int, path: str, count: int) -> tuple[HttpAnswer, ...]:
    """So many answers, all asked for at once."""
    with ThreadPoolExecutor(count, "burst") as pool:
        return tuple(pool.map(lambda _: get(address, port, path), range(count)))
