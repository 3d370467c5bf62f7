"""A request and its answer, as the routes see them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import BadInput, InvalidData, TooLong, WadError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

JSON: Final = b"application/json"
_BODY_LIMIT: Final = 100 << 10  # bytes, as in the reference (reference-backend.md 1.1)
_REQUEST_ID: Final = 128  # characters of an X-Request-Id that come back
_NOT_IN_AN_ID: Final = re.compile(rb"[^A-Za-z0-9._:/+=-]+")
_HOST: Final = re.compile(rb"[A-Za-z0-9.:\[\]_-]{1,255}")

_encode: Final = msgspec.json.Encoder().encode


T = TypeVar("T")
Header = tuple[bytes, bytes]


class HttpError(Exception):
    """An answer that says no; `more` are further fields of its document."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        more: Mapping[str, object] | None = None,
        headers: tuple[Header, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.more = more
        self.headers = headers

    @property
    def answer(self) -> Answer:
        """What goes back."""
        return failure(self.status, self.code, str(self), self.more, *self.headers)


class Request:
    """One request; its body is read when somebody asks for it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]

    def header(self, name: bytes) -> bytes:
        """The header of this name, in small letters; empty when there is none."""
        for key, value in self._scope["headers"]:
            if key == name:
                found: bytes = value
                return found
        return b""

    @property
    def ident(self) -> str:
        """The caller's X-Request-Id, bounded and without what a log or a page would take for its own."""
        return _NOT_IN_AN_ID.sub(b"", self.header(b"x-request-id"))[:_REQUEST_ID].decode()

    @property
    def base_url(self) -> str | None:
        """Scheme and host by which the caller reached us, or a proxy; None where the header is missing or odd."""
        host = self.header(b"host")
        scheme = "https" if self.header(b"x-forwarded-proto") == b"https" else "http"
        return f"{scheme}://{host.decode()}" if _HOST.fullmatch(host) else None

    @property
    def address(self) -> str:
        """The address of whoever is connected to us; what a proxy claims besides is not asked."""
        client = self._scope.get("client")
        return client[0] if client else ""

    @property
    def query(self) -> dict[str, str]:
        """What stands behind the question mark.  Raises BadInput for a name that comes twice."""
        text = self._scope["query_string"].decode("latin-1")
        pairs = parse_qsl(text, keep_blank_values=True)
        found = dict(pairs)
        if len(found) != len(pairs):
            raise BadInput("a parameter is given twice")
        return found

    async def content(self, kind: type[T]) -> T:
        """The body, JSON of this type.  Raises TooLong, HttpError."""
        body = await self.body()
        try:
            with decoding("the body"):
                return msgspec.json.decode(body or b"{}", type=kind)
        except InvalidData as error:
            raise HttpError(400, "invalid_request", str(error)) from error

    async def body(self) -> bytes:
        """All of it.  Raises TooLong."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise BadInput("the body ended early")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > _BODY_LIMIT:
                raise TooLong(f"a body may have {_BODY_LIMIT} bytes")
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()


def document(status: int, content: object, *headers: Header) -> Answer:
    """An answer in JSON."""
    return Answer(status, _encode(content), headers=headers)


def failure(
    status: int,
    code: str,
    message: str,
    more: Mapping[str, object] | None = None,
    *headers: Header,
) -> Answer:
    """An error as the apps read it: always JSON, always with a `message`."""
    content = {"success": False, "error": code, "message": message, **(more or {})}
    return document(status, content, *headers)


def refusal(error: WadError) -> Answer:
    """An error of ours."""
    return failure(
        error.http_status, error.code, str(error), {"hint": error.hint} if error.hint else None
    )
