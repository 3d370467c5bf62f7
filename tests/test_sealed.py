"""One file that only who knows the secret can open."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wad import sealed
from wad.core.errors import BadInput

SECRET = "correct horse battery"


@settings(max_examples=10)
@given(st.binary(max_size=3000))
def test_what_was_sealed_comes_out(plain: bytes) -> None:
    """Nothing is lost, and nothing of it is seen."""
    found = sealed.seal(plain, SECRET, os.urandom)
    assert sealed.unseal(found, SECRET) == plain
    assert len(plain) < 9 or plain not in found.removeprefix(sealed.MAGIC)


@pytest.fixture(scope="module")
def file() -> bytes:
    """A sealed file."""
    return sealed.seal(b"the keys of a session", SECRET, os.urandom)


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
    """It says that the secret may be the wrong one."""
    with pytest.raises(BadInput, match="the secret is another one"):
        sealed.unseal(file, SECRET + "!")


def test_a_short_secret_is_refused() -> None:
    """It would soon be guessed; the hint tells how to make a better one."""
    with pytest.raises(BadInput, match="at least 12") as caught:
        sealed.seal(b"", "12345678901", os.urandom)
    assert "urandom" in caught.value.hint


def test_too_much_is_refused_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's file may fill the memory."""
    large = sealed.seal(b"x" * 100, SECRET, os.urandom)
    monkeypatch.setattr(sealed, "LIMIT", 99)
    with pytest.raises(BadInput, match="more than"):
        sealed.unseal(large, SECRET)
    with pytest.raises(BadInput, match="more than"):
        sealed.seal(b"x" * 100, SECRET, os.urandom)


def test_two_are_never_alike() -> None:
    """Salt and nonce are drawn for each."""
    assert sealed.seal(b"", SECRET, os.urandom) != sealed.seal(b"", SECRET, os.urandom)
