"""The rules for the head of a request."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.http.server.head import (
    RefusedRequest,
    body_length,
    check_begun,
    check_head,
    is_probe,
    without_empty_lines,
)
from wad.http.server.limits import HttpLimits

LIMITS = HttpLimits()
HEAD = b'GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\nX-Odd: \xe9 \t,;"\r\nEmpty:\r\n\r\n'


def refused(head: bytes) -> int:
    """The status with which it is refused."""
    with pytest.raises(RefusedRequest) as caught:
        check_head(head, LIMITS)
    return caught.value.status


def test_a_valid_head_passes_as_it_is() -> None:
    """Byte for byte."""
    assert check_head(HEAD, LIMITS) == HEAD


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.2\r\nHost: a\r\n\r\n",
        b"GET /healthz http/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"G@T /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n: nameless\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\0b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\x7f\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX\xe9: a\r\n\r\n",
    ],
)
def test_invalid_grammar_is_400(head: bytes) -> None:
    """Nothing is repaired, since another server may repair it differently."""
    assert refused(head) == 400


def test_limits_of_a_head() -> None:
    """Each has its own status."""
    assert refused(b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * LIMITS.target_bytes)) == 414
    assert refused(b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"a" * LIMITS.head_bytes)) == 431
    assert refused(b"GET / HTTP/1.1\r\n%s\r\n" % (b"a: b\r\n" * (LIMITS.headers + 1))) == 431
    check_head(b"GET / HTTP/1.1\r\n%s\r\n" % (b"a: b\r\n" * LIMITS.headers), LIMITS)


def test_connect_is_405() -> None:
    """The parser would treat the rest as a tunnel."""
    assert refused(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n") == 405


def test_the_parser_sees_no_upgrade() -> None:
    """It would treat the rest as another protocol."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nuPGRADE: h2c\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    assert check_head(head, LIMITS) == b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n"


def begun(data: bytes, known: int = 0) -> int:
    """The status with which an incomplete head is refused; 0: it may continue."""
    try:
        check_begun(data, known, LIMITS)
    except RefusedRequest as refusal:
        return refusal.status
    return 0


@pytest.mark.parametrize("size", range(1, len(HEAD)))
def test_every_beginning_of_a_valid_head_may_continue(size: int) -> None:
    """Wherever it was cut, and whatever was checked before."""
    assert begun(HEAD[:size]) == 0
    assert begun(HEAD[:size], size - 1) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b" GET /",
        b"GET / HTTP/1.1\n",
        b"GET /\0",
        b"GET / HTTP/1.1\rHost",
        b"\nGET",
    ],
)
def test_an_impossible_beginning_is_refused_at_once(data: bytes) -> None:
    """TLS on the wrong port does not wait for a deadline."""
    assert begun(data) == 400


def test_a_head_without_end() -> None:
    """It is refused when it is too long, whichever part of it is."""
    assert begun(b"GET /" + b"a" * LIMITS.target_bytes) == 414
    assert begun(b"GET / HTTP/1.1\r\nX: " + b"a" * LIMITS.head_bytes) == 431


@given(st.binary(max_size=80), st.data())
def test_half_an_end_of_line_is_found_wherever_it_was_cut(junk: bytes, data: st.DataObject) -> None:
    """A head that is refused in one piece is refused in two."""
    whole = b"GET " + junk + b"x"
    cut = data.draw(st.integers(1, len(whole)))
    assert bool(begun(whole)) == bool(begun(whole[:cut]) or begun(whole, cut))


def test_empty_lines_before_a_request() -> None:
    """They are not part of it."""
    assert without_empty_lines(b"\r\n\r\nGET") == b"GET"
    assert without_empty_lines(b"\r") == b"\r"
    assert without_empty_lines(b"\r\n") == b""


Headers = list[tuple[bytes, bytes]]
HOST = (b"host", b"a")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [HOST, HOST],
        [(b"host", b"a b")],
        [(b"host", b"a/b")],
        [(b"host", b"a@b")],
        [HOST, (b"content-length", b"5"), (b"content-length", b"5")],
        [HOST, (b"content-length", b"5"), (b"content-length", b"6")],
        [HOST, (b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [HOST, (b"content-length", b"5, 5")],
        [HOST, (b"content-length", b"+5")],
        [HOST, (b"content-length", b"-1")],
        [HOST, (b"content-length", b"0x5")],
        [HOST, (b"content-length", b"5 5")],
        [HOST, (b"content-length", b"")],
        [HOST, (b"content-length", b"\xb2")],
        [HOST, (b"content-length", b"9" * 30)],
        [HOST, (b"transfer-encoding", b"xchunked")],
        [HOST, (b"transfer-encoding", b"identity")],
        [HOST, (b"transfer-encoding", b"gzip, chunked")],
        [HOST, (b"transfer-encoding", b"chunked, identity")],
        [HOST, (b"transfer-encoding", b"chunked, chunked")],
        [HOST, (b"transfer-encoding", b"")],
        [HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [HOST, (b"transfer-encoding", b"\x0bchunked")],
    ],
)
def test_an_ambiguous_end_is_400(headers: Headers) -> None:
    """No Host or two, and everything that two servers could read differently."""
    with pytest.raises(RefusedRequest) as caught:
        body_length(headers, "1.1", LIMITS)
    assert caught.value.status == 400


def test_the_length_of_a_body() -> None:
    """None: it is chunked."""
    assert body_length([HOST], "1.1", LIMITS) == 0
    assert body_length([HOST, (b"content-length", b"\t05 ")], "1.1", LIMITS) == 5
    assert body_length([HOST, (b"transfer-encoding", b"Chunked ")], "1.1", LIMITS) is None


def test_a_body_over_the_limit_is_413() -> None:
    """Before a byte of it was read."""
    with pytest.raises(RefusedRequest) as caught:
        body_length([HOST, (b"content-length", b"%d" % (LIMITS.body_bytes + 1))], "1.1", LIMITS)
    assert caught.value.status == 413


def test_http_1_0() -> None:
    """It has no chunks, and Host may be missing."""
    assert body_length([], "1.0", LIMITS) == 0
    for headers in ([HOST, HOST], [(b"transfer-encoding", b"chunked")]):
        with pytest.raises(RefusedRequest):
            body_length(headers, "1.0", LIMITS)


def test_probes() -> None:
    """GET or HEAD of a probe's path, whatever its query."""
    paths = frozenset({b"/healthz"})
    assert is_probe(HEAD, paths)
    assert is_probe(b"HEAD /healthz HTTP/1.0\r\n\r\n", paths)
    assert not is_probe(b"POST /healthz HTTP/1.1\r\n\r\n", paths)
    assert not is_probe(b"GET /healthz/ HTTP/1.1\r\n\r\n", paths)


def test_a_refusal_is_read_as_any_error() -> None:
    """JSON, with its length, and the connection ends."""
    head, _, body = RefusedRequest(503, "unavailable", "no", retry_after=1).response.partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 1\r\n" in head
    assert head.endswith(b"\r\nconnection: close")
    assert b"\r\ncontent-length: %d\r\n" % len(body) in head
    assert json.loads(body) == {"success": False, "error": "unavailable", "message": "no"}
