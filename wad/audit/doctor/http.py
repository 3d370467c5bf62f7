"""Asking the daemon over HTTP, as a probe would."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from wad.audit.doctor.facts import Answer

_PATIENCE: Final = 5.0  # seconds
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_LARGEST: Final = 8 << 20  # bytes


def get(address: str, port: int, path: str) -> Answer:
    """One answer, whatever it is."""
    host = _ANY.get(address, address)
    return _get(http.client.HTTPConnection(host, port, timeout=_PATIENCE), path)


def _get(connection: http.client.HTTPConnection, path: str) -> Answer:
    begun = time.monotonic()
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read(_LARGEST)
        status = response.status
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, error=str(error) or type(error).__name__)
    finally:
        connection.close()
    seconds = time.monotonic() - begun
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    return Answer(status, document if isinstance(document, dict) else None, seconds=seconds)


def get_url(url: str) -> Answer:
    """The answer of a URL, http or https."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        return Answer(0, error=f"{url!r} is no address")
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return _get(kind(parts.hostname, parts.port, timeout=_PATIENCE), parts.path)


def burst(address: str, port: int, path: str, count: int) -> tuple[Answer, ...]:
    """So many answers, all asked for at once."""
    with ThreadPoolExecutor(count, "burst") as pool:
        return tuple(pool.map(lambda _: get(address, port, path), range(count)))
