"""The rules for the head of a request: its grammar, its size, and how it says where the request ends.

Two servers that read one head differently are a way past one of them (request smuggling), so nothing is mended: what is
not exactly the grammar of RFC 9112 is refused before the parser below sees it.
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
"""Control characters, and halves of an end of line."""
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
    """A request that is not given to the application; the last answer on its connection."""

    def __init__(self, status: int, code: str, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def body(self) -> bytes:
        """In the form in which the apps read an error."""
        return _encode({"success": False, "error": self.code, "message": str(self)})

    @property
    def response(self) -> bytes:
        """The whole answer."""
        body = self.body
        retry = b"retry-after: %d\r\n" % self.retry_after if self.retry_after else b""
        return (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            b"%scontent-length: %d\r\nconnection: close\r\n\r\n%s"
        ) % (self.status, _REASONS[self.status], retry, len(body), body)


def invalid(message: str) -> RefusedRequest:
    """What is no valid HTTP."""
    return RefusedRequest(400, "bad_input", message)


def busy(connections: int) -> RefusedRequest:
    """All places are taken."""
    return RefusedRequest(
        503, "unavailable", f"all {connections} connections are in use", retry_after=1
    )


def late(message: str) -> RefusedRequest:
    """What did not come in time."""
    return RefusedRequest(408, "timed_out", message)


def without_empty_lines(data: bytes) -> bytes:
    """What follows the empty lines that may stand before a request (RFC 9112, 2.2)."""
    found = _EMPTY_LINES.match(data)
    return data[found.end() :] if found else data


def check_begun(data: bytes, known: int, limits: HttpLimits) -> None:
    """A head that has not ended yet; its first `known` bytes were checked before.  Raises Refusal."""
    if _FIRST.match(data) is None and data != b"\r":
        raise invalid("a request begins with its method")
    if _NEVER.search(data, max(0, known - 1)):
        raise invalid(
            "the head of the request has a control character or an incomplete end of line"
        )
    if len(data) > limits.target_bytes and data.find(b"\r\n", 0, limits.target_bytes) < 0:
        raise _long_target(limits)
    if len(data) > limits.head_bytes:
        raise _large(limits)


def check_head(head: bytes, limits: HttpLimits) -> bytes:
    """A complete head, as the parser shall see it: without Upgrade, which is not spoken.  Raises Refusal."""
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
            405, "method_not_allowed", "this is no proxy: CONNECT is not supported"
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
    """Whether a head that was checked asks for one of these paths."""
    method, target, _ = head.split(b" ", 2)
    return method in (b"GET", b"HEAD") and target.partition(b"?")[0] in paths


def body_length(
    headers: Sequence[tuple[bytes, bytes]], version: str, limits: HttpLimits
) -> int | None:
    """How long the body is that follows; None: it comes in chunks.  Names are in small letters.  Raises Refusal."""
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts != 1 and (hosts or version != "1.0"):
        raise invalid("a request has one Host header")
    lengths, codings = names.count(b"content-length"), names.count(b"transfer-encoding")
    if version != "1.0" and not _HOST.fullmatch(_value(headers, b"host")):
        raise invalid("the Host header is invalid")
    if not lengths and not codings:
        return 0
    if lengths + codings > 1:
        raise invalid("a request has one Content-Length or one Transfer-Encoding header")
    if codings:
        if version == "1.0" or _value(headers, b"transfer-encoding").lower() != b"chunked":
            raise invalid("the only Transfer-Encoding is chunked, with HTTP/1.1")
        return None
    value = _value(headers, b"content-length")
    if not _LENGTH.fullmatch(value):
        raise invalid("Content-Length is not a number of bytes")
    if int(value) > limits.body_bytes:
        raise long_body(limits)
    return int(value)


def long_body(limits: HttpLimits) -> RefusedRequest:
    """A body over the limit."""
    return RefusedRequest(413, "too_long", f"the body has more than {limits.body_bytes} bytes")


def _value(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next(value for key, value in headers if key == name).strip(b" \t")
