"""Ask the live daemon over HTTP, as an app or a script does."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer; header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON; it must say that it is."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)


def _ask(
    port: int, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, named, answer.read())
    finally:
        connection.close()


async def ask(
    port: int,
    path: str,
    method: str = "GET",
    *,
    content: object = None,
    token: str = "",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request on a connection of its own; `content` is sent as JSON, `token` as the bearer."""
    sent = dict(headers or {})
    body = None
    if content is not None:
        body = json.dumps(content).encode()
        sent["Content-Type"] = "application/json"
    if token:
        sent["Authorization"] = f"Bearer {token}"
    return await asyncio.to_thread(_ask, port, method, path, body, sent)


async def pair(port: int, token: str) -> Reply:
    """Ask for a QR code of the account acc-1, which only administrators may."""
    return await ask(port, "/api/whatsapp/regenerate-qr/acc-1", "POST", token=token)
