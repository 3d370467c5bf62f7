"""The end of a request's body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.http.server.body import Body, Chunked, FixedLength
from wad.http.server.head import RefusedRequest
from wad.http.server.limits import HttpLimits

LIMITS = HttpLimits(body_bytes=1 << 20)


def taken(body: Body, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """The bytes that it takes from data in pieces, and those that it leaves."""
    seen, left, at = b"", b"", 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        piece, rest = body.take(data[at:cut]) if not body.done else (b"", data[at:cut])
        seen, left, at = seen + piece, left + rest, cut
    return seen, left


CUTS = st.lists(st.integers(0, 5000), max_size=6)


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=50), CUTS)
def test_a_counted_body(body: bytes, rest: bytes, cuts: list[int]) -> None:
    """It ends after its bytes, in whatever pieces they arrive."""
    counted = FixedLength(len(body), LIMITS)
    assert taken(counted, body + rest, cuts) == (body, rest)
    assert counted.done


PARTS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="b c"', b"; \xe9"])
TRAILERS = st.lists(
    st.sampled_from([b"A: b\r\n", b"X-Checksum:\r\n", b"Host: evil\r\n"]), max_size=3
)


@given(PARTS, EXTENSIONS, TRAILERS, st.binary(max_size=50), CUTS)
def test_a_chunked_body(
    parts: list[bytes], extension: bytes, trailers: list[bytes], rest: bytes, cuts: list[int]
) -> None:
    """It ends after its trailers, which the parser does not see."""
    chunks = b"".join(b"%X%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    chunked = Chunked(LIMITS)
    seen, left = taken(chunked, chunks + b"0\r\n" + b"".join(trailers) + b"\r\n" + rest, cuts)
    assert (seen, left) == (chunks + b"0\r\n\r\n", rest)
    assert chunked.done


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"5\nhello",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b"g\r\n",
        b" 5\r\n",
        b"5 5\r\n",
        b"5;a\0\r\n",
        b"5;a\rb\r\n",
        b"5" * 13 + b"\r\n",
        b"5;" + b"a" * 2000,
        b"a" * 2000,
        b"0\r\nno colon\r\n",
        b"0\r\n: nameless\r\n",
        b"0\r\n folded: a\r\n",
        b"0\r\nA: b\n",
        b"0\r\nX: " + b"a" * 2000,
        b"0\r\n" + b"a: b\r\n" * 400,
        b"1;%s\r\na\r\n" % (b"x" * 900) * 30,
    ],
)
def test_invalid_chunks(data: bytes) -> None:
    """Refused as soon as it is clear, before the end of the line."""
    with pytest.raises(RefusedRequest) as caught:
        Chunked(LIMITS).take(data)
    assert caught.value.status == 400


def test_chunks_over_the_limit() -> None:
    """Their sizes are added before their bytes arrive."""
    chunked = Chunked(LIMITS)
    chunked.take(b"80000\r\n" + b"a" * 0x80000 + b"\r\n")
    with pytest.raises(RefusedRequest) as caught:
        chunked.take(b"80001\r\n")
    assert caught.value.status == 413


def test_many_small_chunks_are_accepted() -> None:
    """Typed input is not an attack."""
    chunked = Chunked(LIMITS)
    chunked.take(b"1\r\na\r\n" * 20_000 + b"0\r\n\r\n")
    assert chunked.done


def test_a_short_rest() -> None:
    """The rest of a body that may be read to reach the next request."""
    long, short = (FixedLength(LIMITS.rest_bytes + more, LIMITS) for more in (1, 0))
    assert (long.short, short.short, Chunked(LIMITS).short) == (False, True, False)
    long.take(b"a")
    assert long.short
