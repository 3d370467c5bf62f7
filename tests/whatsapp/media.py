"""The media host: files that clients upload and download over HTTP (docs/internals/whatsapp-protocol.md#media)."""

from __future__ import annotations

import json
from dataclasses import dataclass

HOST = "mmg.whatsapp.net"


@dataclass(frozen=True)
class Request:
    """One HTTP request."""

    method: str
    path: str  # without query
    headers: dict[str, str]  # names in lower case
    body: bytes = b""


class MediaHost:
    """Encrypted files by path.  While `broken`, all requests fail; `refused` counts them."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken = False
        self.refused = 0

    def answer(self, request: Request) -> tuple[int, bytes]:
        """Status and body."""
        match request.method:
            case "GET" if self.broken:
                self.refused += 1
                return 503, b""
            case "GET" if request.path in self.files:
                return 200, self.files[request.path]
            case "POST":
                self.files[request.path] = request.body
                url = f"https://{HOST}{request.path}"
                # The client appends "&hash=...", so a query has to be there already.
                return 200, json.dumps({"url": url, "direct_path": f"{request.path}?x=1"}).encode()
            case "DELETE":
                self.files.pop(request.path, None)
                return 200, b""
        return 404, b""
