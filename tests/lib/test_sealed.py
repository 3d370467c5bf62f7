"""A file that can be opened only with its secret."""

from __future__ import annotations

import base64
import os
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wad.core.errors import BadInput, Unavailable
from wad.lib import sealed

SECRET = "correct horse battery"
CHEAP = sealed.Cost(4, 8, 1)


@settings(max_examples=10)
@given(st.binary(max_size=3000))
def test_sealed_data_is_opened(plain: bytes) -> None:
    """Nothing is lost, and nothing of it is seen."""
    found = sealed.seal(plain, SECRET, os.urandom, CHEAP)
    assert sealed.unseal(found, SECRET) == plain
    assert len(plain) < 9 or plain not in found.removeprefix(sealed.MAGIC)


@pytest.fixture(scope="module")
def file() -> bytes:
    """A sealed file."""
    return sealed.seal(b"the keys of a session", SECRET, os.urandom, CHEAP)


@settings(max_examples=20)
@given(data=st.data())
def test_a_changed_byte_is_found(file: bytes, data: st.DataObject) -> None:
    """Wherever it is."""
    at = data.draw(st.integers(0, len(file) - 1))
    changed = file[:at] + bytes([file[at] ^ data.draw(st.integers(1, 255))]) + file[at + 1 :]
    with pytest.raises(BadInput):
        sealed.unseal(changed, SECRET)


@pytest.mark.parametrize("length", [0, 5, 13, 20, 40, 60])
def test_a_part_of_it_is_nothing(file: bytes, length: int) -> None:
    """A copy that was cut off."""
    with pytest.raises(BadInput):
        sealed.unseal(file[:length], SECRET)


def test_another_secret_does_not_open_it(file: bytes) -> None:
    """The error names the wrong secret as a possible cause."""
    with pytest.raises(BadInput, match="the secret is wrong"):
        sealed.unseal(file, SECRET + "!")


def test_a_short_secret_is_refused() -> None:
    """It is easily guessed; the hint shows how to create a better one."""
    with pytest.raises(BadInput, match="at least 12") as caught:
        sealed.seal(b"", "12345678901", os.urandom, CHEAP)
    assert "urandom" in caught.value.hint


def test_too_much_is_refused_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cannot fill the memory."""
    large = sealed.seal(b"x" * 100, SECRET, os.urandom, CHEAP)
    monkeypatch.setattr(sealed, "LIMIT", 99)
    with pytest.raises(BadInput, match="more than"):
        sealed.unseal(large, SECRET)
    with pytest.raises(BadInput, match="more than"):
        sealed.seal(b"x" * 100, SECRET, os.urandom, CHEAP)


def test_two_are_never_alike() -> None:
    """Salt and nonce are drawn for each."""
    assert len({sealed.seal(b"", SECRET, os.urandom, CHEAP) for _ in range(2)}) == 2


# --- the cost of a key ----------------------------------------------------------------------------

OF_BEFORE = base64.b64decode(
    "d2FkIHNlYWxlZCAxCgABAgMEBQYHCAkKCwwNDg8AAQIDBAUGBwgJCgsmCLpK6vYgRkCYHE/y"
    "pYEieE+TXOcPstIr8210mL81PxaTHNWUv2uGoYsLGOE="
)
"""What wad wrote until 2026."""


def test_an_older_file_opens() -> None:
    """Its head names no parameters."""
    assert OF_BEFORE.startswith(b"wad sealed 1\n")
    assert sealed.unseal(OF_BEFORE, SECRET) == b"the keys of a session"


def test_a_key_costs_what_owasp_names_first() -> None:
    """N = 2^17, r = 8, p = 1, in the file's head: 128 MB."""
    ours = sealed.seal(b"the keys of a session", SECRET, os.urandom)
    assert ours.startswith(b"wad sealed 2\n" + bytes([17, 8, 1]))
    assert sealed.unseal(ours, SECRET) == b"the keys of a session"
    assert sealed.COST.memory == 128 << 20


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_file_cannot_ask_for_more_than_is_bearable(numbers: tuple[int, int, int]) -> None:
    """Twice the memory and four times the time of our own, whatever its head contains."""
    cost = sealed.Cost(*numbers)
    if cost.is_bearable:
        assert cost.memory <= 256 << 20
        assert cost.memory * cost.p <= 512 << 20
        assert min(numbers) > 0


@pytest.mark.parametrize(
    "cost",
    [(0, 8, 1), (17, 0, 1), (17, 8, 0), (30, 8, 1), (17, 255, 1), (17, 8, 255), (255, 255, 255)],
)
def test_a_file_that_asks_for_too_much_is_refused_before_any_key_is_made(
    file: bytes, cost: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gigabyte of memory for a stranger's file is not given."""

    def made(*_: object) -> bytes:
        raise AssertionError("a key was made")

    monkeypatch.setattr(sealed, "_key", made)
    begin = len(sealed.MAGIC)
    with pytest.raises(BadInput, match="would cost too much"):
        sealed.unseal(file[:begin] + bytes(cost) + file[begin + 3 :], SECRET)


def test_no_memory_for_a_key_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is as good as before."""
    from cryptography.hazmat.primitives.kdf import scrypt

    def none(**_: object) -> object:
        raise MemoryError

    monkeypatch.setattr(scrypt, "Scrypt", none)
    with pytest.raises(Unavailable, match="128 MB of memory"):
        sealed.seal(b"", SECRET, os.urandom)


def test_data_that_was_not_packed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the secret anything can be sealed; invalid content is a typed error."""
    monkeypatch.setattr(zlib, "compress", lambda plain: plain)
    odd = sealed.seal(b"no zlib stream", SECRET, os.urandom, CHEAP)
    with pytest.raises(BadInput, match="not contain data that wad has compressed"):
        sealed.unseal(odd, SECRET)
