"""The rules for the head of a request: its grammar, its size, and the length of its body.

Two servers that parse a head differently allow request smuggling, so nothing is corrected: a head that does not match
the grammar of RFC 9112 exactly is refused before the parser gets it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from wad.http.server.limits import HttpLimits

_encode: Final = msgspec.json.Encoder().encode

END: Final = b"\r\n\r\n"

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HEAD: Final = re.compile(
    rb"(" + _TOKEN + rb"{1,32}) ([!-~]+) HTTP/1\.[01]\r\n"
    rb"(?:" + _TOKEN + rb"+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*\r\n"
)
_NEVER: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
"""Control characters and incomplete ends of lines."""
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
_FIRST: Final = re.compile(_TOKEN)
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r]*", re.IGNORECASE)
_HOST: Final = re.compile(rb"[A-Za-z0-9.\-_~:\[\]%!$&'()*+,;=]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

_REASONS: Final = {
    400: b"Bad Request",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}


class RefusedRequest(Exception):
    """An error for a request that the application does not get; its response closes the connection."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def body(self) -> bytes:
        """The body of the response, in the apps' error format."""
        return _encode({"success": False, "error": self.code, "message": str(self)})

    @property
    def response(self) -> bytes:
        """The bytes of the response."""
        body = self.body
        retry = b"retry-after: %d\r\n" % self.retry_after if self.retry_after else b""
        return (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            b"%scontent-length: %d\r\nconnection: close\r\n\r\n%s"
        ) % (self.status, _REASONS[self.status], retry, len(body), body)


def invalid(message: str) -> RefusedRequest:
    """The error for invalid HTTP."""
    return RefusedRequest(400, "bad_input", message)


def busy(connections: int) -> RefusedRequest:
    """The error when all connection slots are in use."""
    return RefusedRequest(
        503, "unavailable", f"all {connections} connections are in use", retry_after=1
    )


def late(message: str) -> RefusedRequest:
    """The error for a request that did not arrive in time."""
    return RefusedRequest(408, "timed_out", message)


def without_empty_lines(data: bytes) -> bytes:
    """The data after the empty lines that may precede a request (RFC 9112, 2.2)."""
    found = _EMPTY_LINES.match(data)
    return data[found.end() :] if found else data


def check_begun(data: bytes, known: int, limits: HttpLimits) -> None:
    """Check an incomplete head, whose first `known` bytes were checked before.  Raises RefusedRequest."""
    if _FIRST.match(data) is None and data != b"\r":
        raise invalid("a request must begin with its method")
    if _NEVER.search(data, max(0, known - 1)):
        raise invalid(
            "the head of the request has a control character or an incomplete end of line"
        )
    if len(data) > limits.target_bytes and data.find(b"\r\n", 0, limits.target_bytes) < 0:
        raise _long_target(limits)
    if len(data) > limits.head_bytes:
        raise _large(limits)


def check_head(head: bytes, limits: HttpLimits) -> bytes:
    """Check a complete head and return it without Upgrade, which is not supported.  Raises RefusedRequest."""
    if len(head) > limits.head_bytes:
        raise _large(limits)
    found = _HEAD.fullmatch(head)
    if found is None:
        raise invalid("the head of the request is not valid HTTP/1.1")
    method, target = found.groups()
    if len(target) > limits.target_bytes:
        raise _long_target(limits)
    if head.count(b"\n") - 2 > limits.headers:
        raise RefusedRequest(431, "too_long", f"the request has more than {limits.headers} headers")
    if method == b"CONNECT":
        raise RefusedRequest(
            405, "method_not_allowed", "CONNECT is not supported: this server is not a proxy"
        )
    return _UPGRADE.sub(b"", head)


def _long_target(limits: HttpLimits) -> RefusedRequest:
    return RefusedRequest(
        414, "too_long", f"path and query have more than {limits.target_bytes} bytes"
    )


def _large(limits: HttpLimits) -> RefusedRequest:
    return RefusedRequest(
        431, "too_long", f"the head of the request has more than {limits.head_bytes} bytes"
    )


def is_probe(head: bytes, paths: frozenset[bytes]) -> bool:
    """Whether a checked head requests one of these paths."""
    method, target, _ = head.split(b" ", 2)
    return method in (b"GET", b"HEAD") and target.partition(b"?")[0] in paths


def body_length(
    headers: Sequence[tuple[bytes, bytes]], version: str, limits: HttpLimits
) -> int | None:
    """The length of the body; None: it is chunked.  `headers` has names in lower case.  Raises RefusedRequest."""
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts != 1 and (hosts or version != "1.0"):
        raise invalid("a request must have one Host header")
    lengths, codings = names.count(b"content-length"), names.count(b"transfer-encoding")
    if version != "1.0" and not _HOST.fullmatch(_value(headers, b"host")):
        raise invalid("the Host header is invalid")
    if not lengths and not codings:
        return 0
    if lengths + codings > 1:
        raise invalid("a request may have one Content-Length or one Transfer-Encoding header")
    if codings:
        if version == "1.0" or _value(headers, b"transfer-encoding").lower() != b"chunked":
            raise invalid("the only supported Transfer-Encoding is chunked, with HTTP/1.1")
        return None
    value = _value(headers, b"content-length")
    if not _LENGTH.fullmatch(value):
        raise invalid("Content-Length is not a number of bytes")
    if int(value) > limits.body_bytes:
        raise long_body(limits)
    return int(value)


def long_body(limits: HttpLimits) -> RefusedRequest:
    """The error for a body over the limit."""
    return RefusedRequest(413, "too_long", f"the body has more than {limits.body_bytes} bytes")


def _value(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next(value for key, value in headers if key == name).strip(b" \t")
