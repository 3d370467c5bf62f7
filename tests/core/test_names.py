"""What an account may be called, and how one is shown that is called something else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wad.core.errors import BadInput
from wad.core.names import LONGEST, check_name, shown_name

GOOD = [
    "Shop", "shop 2", "Büro Köln", "Магазин", "متجر", "店", "ร้านค้า", "नमस्ते", "a", "x" * LONGEST, "R&D <b>",
    "O'Neil", "50% off", "\U0001f469\u200d\U0001f4bb office", "\U0001f3f3\ufe0f\u200d\U0001f308", "=1+1", "a--b",
    "C:\\shop", "+15550000001", "`id`",
]  # fmt: skip
BAD = [
    "", " ", "   ", "Shop\n", "Shop\nERROR forged", "a\tb", "\x1b[31mShop", "\x07", "a\x00b", "\x7f", "\x9b31m",
    "a\x85b", "\u202egnp.exe", "a\u2066b\u2069", "a\u200eb", "\u061ca", "zero\u200bwidth", "a\u2060b", "\ufeffShop",
    "soft\u00adhyphen", "a\u200cb", "a\u200db", "\u200d\U0001f469", "a\u2028b", "a\u2029b", "no\u00a0break",
    "a\u3000b", "a\u2003b", " Shop", "Shop ", "-x", "--help", "-", "\ud800", "\ue000", "\uffff", "\U000e0041",
    "\u3164", "\u2800", "\u115fx", "\u0301a", "a" + "\u0316" * 6, "x" * (LONGEST + 1), "x" * 10_000,
    "\U0001f600" * 10_000, "\u202e" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_stays(name: str) -> None:
    """Letters of every script, marks, symbols, pictures of several parts."""
    assert check_name(name) == name == shown_name(name)


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_deceives_is_refused(name: str) -> None:
    """Escapes, line ends, what cannot be seen or turns the line around, options, too long; in one line of ASCII."""
    with pytest.raises(BadInput) as caught:
        check_name(name)
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 400


def test_two_spellings_are_one_name() -> None:
    """A name typed on another system is the same name."""
    assert check_name("Bu\u0308ro") == "B\u00fcro"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[31mShop", "\\x1b[31mShop"),
        ("Shop\nERROR forged", "Shop\\nERROR forged"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("--help", "\\--help"),
        (" Shop ", "Shop"),
        ("", "\\"),
        ("x" * 10_000, "x" * 99 + "\u2026"),
    ],
)
def test_a_name_that_is_there_already_is_shown_escaped(name: str, shown: str) -> None:
    """The account can be seen and renamed."""
    assert shown_name(name) == shown


@given(st.text() | st.text(st.characters(categories=["C", "Z", "M"])) | st.text(min_size=90))
@example("\u202e" * 10_000)
@example("-\n-")
@example("0\u0591\u0300\u0300\u0344")
def test_a_shown_name_is_valid(name: str) -> None:
    """Whatever a card holds."""
    shown = shown_name(name)
    assert check_name(shown) == unicodedata.normalize("NFC", shown)
    assert shown.isprintable() or "\u200d" in shown


@given(st.text())
def test_a_checked_name_is_good_again(name: str) -> None:
    """Checking changes nothing the second time, and raises nothing but BadInput."""
    try:
        good = check_name(name)
    except BadInput:
        return
    assert check_name(good) == good
    assert len(good) <= LONGEST
