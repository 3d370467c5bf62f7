"""Decoding what others wrote."""

from __future__ import annotations

import base64
import json
import tomllib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.decoding import decoding
from wad.core.errors import Conflict, InvalidData
from wad.core.jid import Jid


class _Shape(msgspec.Struct):
    text: str
    inner: list[object]


DECODERS: dict[str, Callable[[bytes], object]] = {
    "json": lambda data: msgspec.json.decode(data, type=_Shape),
    "any json": json.loads,
    "msgpack": lambda data: msgspec.msgpack.decode(data, type=_Shape),
    "any msgpack": lambda data: msgspec.msgpack.decode(data),
    "frame": lambda data: msgpack.unpackb(data, strict_map_key=True),
    "toml": lambda data: tomllib.loads(data.decode()),
    "base64": lambda data: base64.b64decode(data, validate=True),
    "address": lambda data: Jid.parse(data.decode()),
    "time": lambda data: datetime.fromtimestamp(int.from_bytes(data, "big"), UTC),
}


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.binary(max_size=200))
def test_any_bytes_decode_or_are_invalid(name: str, data: bytes) -> None:
    """No decoder raises another error for untrusted bytes."""
    with suppress(InvalidData), decoding("a file"):
        DECODERS[name](data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("json", b'{"text": "\xff", "inner": []}'),
        ("any json", b"[" * 100_000),
        ("json", b'{"text": "", "inner": ' + b"[" * 100_000),
        ("any msgpack", b"\x91" * 100_000 + b"\xc0"),
        ("frame", b"\x91" * 100_000 + b"\xc0"),
        ("frame", b"\x81\x90\x00"),
        ("toml", b"a = " + b"[" * 100_000),
        ("msgpack", b"\x82\xa4text\xa1\xff\xa5inner\x90"),
        ("time", b"\xff" * 8),
    ],
)
def test_errors_that_decoders_do_not_document(name: str, data: bytes) -> None:
    """Bad Unicode, depth and size become InvalidData, and its text is bounded."""
    with pytest.raises(InvalidData) as raised, decoding("a file"):
        DECODERS[name](data)
    assert len(str(raised.value)) < 400


def test_other_errors_pass() -> None:
    """Errors of the environment and errors that show a bug pass unchanged."""
    with pytest.raises(Conflict), decoding("a file"):
        raise Conflict("busy")
    with pytest.raises(KeyError), decoding("a file"):
        raise KeyError("x")
