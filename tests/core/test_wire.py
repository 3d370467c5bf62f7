"""The frames between processes: an encoded frame decodes to itself, and nothing else is accepted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.errors import BadInput, Denied, InvalidData, WadError
from wad.core.wire import (
    HELLO,
    MAX_ERROR_TEXT,
    MAX_FRAME,
    PROTOCOL,
    UNTRUSTED,
    Decoder,
    EncodedCall,
    Frame,
    FrameLimits,
    Notice,
    Request,
    Response,
    StreamItem,
    check_hello,
    encode,
)

_ids = st.integers(1, 2**63 - 1)
_words = st.text(min_size=1, max_size=20)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=10,
)
_frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Request, _ids, _words, _values),
    st.builds(lambda ident, result: Response(ident, None, result), _ids, _values),
    st.builds(Notice, _words, _values),
    st.builds(StreamItem, _ids, _values),
)


def decode(data: bytes, cuts: list[int]) -> list[Frame]:
    """The frames of bytes that arrive in these parts."""
    decoder = Decoder()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [frame for low, high in pairwise(edges) for frame in decoder.feed(data[low:high])]


@given(st.lists(_frames, max_size=5), st.lists(st.integers(0, 500), max_size=5))
def test_frames_survive_any_split(frames: list[Frame], cuts: list[int]) -> None:
    """Frames are decoded as they were encoded, wherever the bytes were cut."""
    assert decode(b"".join(map(encode, frames)), cuts) == frames


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_give_frames_or_bad_input(data: bytes, cuts: list[int]) -> None:
    """No input makes the decoder raise anything but BadInput."""
    try:
        frames = decode(data, cuts)
    except BadInput:
        return
    assert all(isinstance(frame, Frame) for frame in frames)


def framed(value: Any) -> bytes:
    """Any value as the body of a frame."""
    body: bytes = msgpack.packb(value)
    return len(body).to_bytes(4, "big") + body


@given(_values)
def test_any_value_is_a_frame_or_bad_input(value: Any) -> None:
    """Well-formed MessagePack that has none of the four shapes is refused."""
    try:
        decode(framed(value), [])
    except BadInput:
        return
    assert isinstance(value, list)


def test_an_error_keeps_its_class_and_hint() -> None:
    """The other side raises the same error, hint included."""
    (frame,) = decode(encode(Response(7, Denied("no", hint="ask root"), None)), [])
    assert isinstance(frame, Response)
    assert isinstance(frame.error, Denied)
    assert (str(frame.error), frame.error.hint) == ("no", "ask root")


def test_an_unknown_code_is_a_plain_error() -> None:
    """An error of a newer version keeps its text."""
    (frame,) = decode(framed([1, 1, {"code": "later", "message": "hm"}, None]), [])
    assert isinstance(frame, Response)
    assert type(frame.error) is WadError


def test_a_frame_over_the_limit_is_refused() -> None:
    """Its length is enough: nothing of it is kept."""
    limits = FrameLimits(size=1000)
    decoder = Decoder(limits)
    assert list(decoder.feed(framed("x" * 900)[:500])) == []
    assert (decoder.waiting, decoder.wanted) == (500, len(framed("x" * 900)))
    with pytest.raises(BadInput, match="1001 bytes"):
        list(Decoder(limits).feed((1001).to_bytes(4, "big")))


def nested(depth: int, *, maps: bool = False) -> Any:
    """A list in a list in a list."""
    value: Any = None
    for _ in range(depth):
        value = {"a": value} if maps else [value]
    return value


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize(
    "shape", [lambda v: [0, 1, "m", v], lambda v: [1, 1, v, None], lambda v: [2, "m", v]]
)
def test_deep_nesting_is_refused(shape: Callable[[Any], Any], maps: bool) -> None:
    """Nested lists overflow no stack, wherever they are in a frame."""
    with pytest.raises(BadInput, match="deep"):
        decode(framed(shape(nested(100, maps=maps))), [])
    decode(framed([2, "m", nested(20, maps=maps)]), [])


@pytest.mark.parametrize(
    "element",
    [
        b"\x80",
        b"\x90",
        b"\xa0",
        b"\xc0",
        b"\xc2",
        b"\x01",
        b"\xcd\x01\x01",
        b"\xcb" + b"\x01" * 8,
        b"\xc4\x01a",
        b"\xa2ab",
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_a_frame_full_of_values_is_refused_before_it_is_built(element: bytes, split: bool) -> None:
    """A byte of a frame may be 72 in memory: values are counted, in one list or in many."""
    many = MAX_FRAME // 2 // len(element)
    inner = b"\xdd" + many.to_bytes(4, "big") + element * many
    if split:
        inner = b"\xdd" + (many // 10).to_bytes(4, "big") + (b"\x9a" + element * 10) * (many // 10)
    body = b"\x93\x02\xa1m" + inner
    tracemalloc.start()
    with pytest.raises(BadInput, match="more than 10000 values"):
        decode(len(body).to_bytes(4, "big") + body, [])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MAX_FRAME


def test_lengths_that_are_not_there_are_refused_at_once() -> None:
    """A head that promises 2**32 values reserves nothing for them."""
    for head in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ):
        body = b"\x93\x02\xa1m" + head
        with pytest.raises(BadInput):
            decode(len(body).to_bytes(4, "big") + body, [])


@given(st.lists(_frames, min_size=1, max_size=3))
def test_counted_frames_are_decoded_frames(frames: list[Frame]) -> None:
    """A frame of n values passes a limit of n, and none of n - 1."""
    for frame in frames:
        data = encode(frame)
        values = count(msgpack.unpackb(data[4:], strict_map_key=True))
        assert list(Decoder(FrameLimits(values=values)).feed(data)) == [frame]
        with pytest.raises(BadInput, match="values"):
            list(Decoder(FrameLimits(values=values - 1)).feed(data))


def count(value: Any) -> int:
    """How many values it is, keys and itself included."""
    match value:
        case dict():
            return 1 + sum(1 + count(inner) for inner in value.values())
        case list():
            return 1 + sum(map(count, value))
    return 1


@pytest.mark.parametrize(
    "shape",
    [
        [0, True, "version", {}],
        [0, 0, "version", {}],
        [0, -1, "version", {}],
        [0, 2**63, "version", {}],
        [0, 2**64 - 1, "version", {}],
        [0, 1.0, "version", {}],
        [0, 1, "", {}],
        [0, 1, "x" * 101, {}],
        [0, 1, "version", msgpack.Timestamp(1, 1)],
        [0, 1, "version", {"a": msgpack.ExtType(5, b"x")}],
        [1, True, None, None],
        [1, 1, {"code": [], "message": ""}, None],
        [1, 1, {"code": "internal", "message": b"\xff"}, None],
        [1, 1, "an error", None],
        [2, "x" * 101, None],
        [3, 0, None],
        [3, 2**64 - 1, None],
    ],
)
def test_ids_methods_and_errors_out_of_their_range(shape: list[Any]) -> None:
    """Ids are positive and have 63 bits, methods have a name, errors have texts, no value has an extension type."""
    with pytest.raises(InvalidData):
        decode(framed(shape), [])


@pytest.mark.parametrize("text", [b"\xa3\xed\xa0\x80", b"\xa1\xff", b"\xa2\xc3\x28"])
def test_text_that_is_not_utf8_is_refused(text: bytes) -> None:
    """A lone surrogate, a stray byte: no text of a frame holds them."""
    body = b"\x93\x02\xa1m" + text
    with pytest.raises(InvalidData):
        decode(len(body).to_bytes(4, "big") + body, [])


def test_the_text_of_an_error_is_cut() -> None:
    """An error cannot flood the log."""
    (frame,) = decode(framed([1, 1, {"code": "internal", "message": "x" * 100_000}, None]), [])
    assert isinstance(frame, Response)
    assert len(str(frame.error)) == MAX_ERROR_TEXT


def test_two_sides_of_one_version_understand_each_other() -> None:
    """HELLO survives the wire and is taken."""
    (frame,) = decode(encode(HELLO), [])
    check_hello(frame)


@pytest.mark.parametrize(
    "frame",
    [
        Notice("hello", [PROTOCOL + 1]),
        Notice("hello", []),
        Notice("hello", [True]),
        Request(1, "hello", [PROTOCOL]),
    ],
)
def test_another_hello_is_refused(frame: Frame) -> None:
    """Another version, none at all, another frame."""
    with pytest.raises(BadInput, match="version"):
        check_hello(frame)


@pytest.mark.parametrize("shape", [[0, "1", "m", {}], [0, 1, 2, 3], [9, 1], {}])
def test_other_shapes_are_refused(shape: object) -> None:
    """Only the four shapes of MessagePack-RPC pass."""
    with pytest.raises(BadInput):
        decode(framed(shape), [])


@given(_words, _values, st.lists(_ids, min_size=1, max_size=3))
def test_a_call_is_its_request_under_any_id(method: str, params: Any, idents: list[int]) -> None:
    """Encoded once, it is what the request with that id would be."""
    call = EncodedCall(method, params)
    for ident in idents:
        assert call.frame(ident) == encode(Request(ident, method, params))


@pytest.mark.parametrize("ident", [1, 127, 128, 2**32, 2**63 - 1])
def test_the_largest_call_is_taken_under_any_id(ident: int) -> None:
    """What passes the check here is decoded there, and one byte more is refused here."""
    text = "x" * UNTRUSTED.size
    spare = len(encode(Request(2**63 - 1, "m", text))) - 4 - UNTRUSTED.size
    fits = text[spare:]
    (found,) = Decoder(UNTRUSTED).feed(EncodedCall("m", fits).frame(ident))
    assert found == Request(ident, "m", fits)
    with pytest.raises(BadInput):
        EncodedCall("m", fits + "x")
