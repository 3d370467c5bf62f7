"""HTTP requests to the daemon, as a probe makes them."""

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

_TIMEOUT: Final = 5.0  # seconds
_TOTAL_TIMEOUT: Final = 15.0  # seconds, for a server that answers byte by byte
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_MAX_BODY: Final = 8 << 20  # bytes


def get(address: str, port: int, path: str) -> HttpAnswer:
    """Make one request; never raises."""
    host = _ANY.get(address, address)
    return _get(http.client.HTTPConnection(host, port, timeout=_TIMEOUT), path)


def _get(connection: http.client.HTTPConnection, path: str) -> HttpAnswer:
    begun = time.monotonic()
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = _body(response, begun + _TOTAL_TIMEOUT)
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
    """Read the body until the deadline, at most _MAX_BODY bytes."""
    parts, size = [], 0
    while size < _MAX_BODY and time.monotonic() < until and (part := response.read1(1 << 16)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def get_url(url: str) -> HttpAnswer:
    """Request a URL, http or https."""
    try:
        with decoding("the address"):
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
    except InvalidData:
        return HttpAnswer(0, error=f"{url!r:.200} is not an HTTP URL")
    if not host or parts.scheme not in ("http", "https"):
        return HttpAnswer(0, error=f"{url!r:.200} is not an HTTP URL")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return _get(kind(host, port, timeout=_TIMEOUT), parts.path)


def burst(address: str, port: int, path: str, count: int) -> tuple[HttpAnswer, ...]:
    """Make `count` requests at once."""
    with ThreadPoolExecutor(count, "burst") as pool:
        return tuple(pool.map(lambda _: get(address, port, path), range(count)))
