"""The frames between processes: what was encoded comes back, and nothing else passes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.errors import BadInput, Denied, WadError
from wad.core.wire import (
    HELLO,
    PROTOCOL,
    Decoder,
    Frame,
    Item,
    Notice,
    Request,
    Response,
    check_hello,
    encode,
)

_ids = st.integers(0, 2**63 - 1)
_words = st.text(max_size=20)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=10,
)
_frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Request, _ids, _words, _values),
    st.builds(lambda ident, result: Response(ident, None, result), _ids, _values),
    st.builds(Notice, _words, _values),
    st.builds(Item, _ids, _values),
)


def decode(data: bytes, cuts: list[int]) -> list[Frame]:
    """The frames of bytes that arrive in these parts."""
    decoder = Decoder()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [frame for low, high in pairwise(edges) for frame in decoder.feed(data[low:high])]


@given(st.lists(_frames, max_size=5), st.lists(st.integers(0, 500), max_size=5))
def test_frames_survive_any_split(frames: list[Frame], cuts: list[int]) -> None:
    """Frames come out as they went in, wherever the bytes were cut."""
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
    """An error of a newer version still says its sentence."""
    (frame,) = decode(framed([1, 1, {"code": "later", "message": "hm"}, None]), [])
    assert isinstance(frame, Response)
    assert type(frame.error) is WadError


def test_a_frame_over_the_limit_is_refused() -> None:
    """Its length is enough: nothing of it is kept."""
    decoder = Decoder(max_frame=1000)
    assert list(decoder.feed(framed("x" * 900)[:500])) == []
    with pytest.raises(BadInput, match="1001 bytes"):
        list(Decoder(max_frame=1000).feed((1001).to_bytes(4, "big")))


def test_deep_nesting_is_refused() -> None:
    """Arrays in arrays without end do not overflow the stack."""
    with pytest.raises(BadInput):
        decode((100_000).to_bytes(4, "big") + b"\x91" * 100_000, [])


def test_two_sides_of_one_version_understand_each_other() -> None:
    """HELLO survives the wire and is taken."""
    (frame,) = decode(encode(HELLO), [])
    check_hello(frame)


@pytest.mark.parametrize(
    "frame", [Notice("hello", [PROTOCOL + 1]), Notice("hello", []), Request(1, "hello", [PROTOCOL])]
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
