"""What means an account, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.account_reference import (
    Names,
    ReferenceKind,
    clash,
    number_of,
    reference_kind,
    similar,
)

SHOP = Names("acc-15550000001", "Shop", "+15550000001")


@pytest.mark.parametrize(
    ("ref", "how"),
    [
        ("acc-15550000001", ReferenceKind.ID),
        ("Shop", ReferenceKind.NAME),
        ("shop", ReferenceKind.NAME),
        ("SHOP", ReferenceKind.NAME),
        ("ACC-15550000001", ReferenceKind.ID),
        ("+15550000001", ReferenceKind.NUMBER),
        ("15550000001", ReferenceKind.NUMBER),
        ("0015550000001", ReferenceKind.NUMBER),
        ("+1 (555) 000-0001", ReferenceKind.NUMBER),
    ],
)
def test_an_account_is_meant_by_id_name_and_whole_number(ref: str, how: ReferenceKind) -> None:
    """In any case, and however the number is written."""
    assert reference_kind(ref, SHOP) is how


@pytest.mark.parametrize(
    "ref",
    [
        "old_15550000001_copy",  # the digits of its number, and more
        "acc-1555000000",
        " Shop",
        "Shop ",
        "Sho",
        "5550000001",
        "155500000011",
        "015550000001",
        "++15550000001",
        "+15550000001x",
        "+15550000001@s.whatsapp.net",
        "+١٥٥٥٠٠٠٠٠٠١",
        "１５５５００００００１",
        "+1555000000¹",
        "",
        "+",
        "*",
    ],
)
def test_nothing_else_means_it(ref: str) -> None:
    """No part, no other digits."""
    assert reference_kind(ref, SHOP) is None


@given(st.text(max_size=30))
def test_an_account_without_a_number_is_meant_by_no_number(ref: str) -> None:
    """Whatever is given."""
    assert reference_kind(ref, Names("a", "b")) is {
        "a": ReferenceKind.ID,
        "b": ReferenceKind.NAME,
    }.get(ref.casefold())


_REF = st.sampled_from(
    ["a", "b", "B", "a b", "15550000001", "+15550000001", "1 555 000 0001", "15550000002", "x"]
)
_NAMES = st.builds(
    Names,
    st.sampled_from(["a", "b", "15550000001", "15550000002"]),
    _REF,
    st.sampled_from(["", "+15550000001", "+15550000002"]),
)


@given(_NAMES, _NAMES, _REF)
def test_distinct_names_are_never_ambiguous(one: Names, other: Names, ref: str) -> None:
    """Whatever means one account means no other that was allowed beside it."""
    if not clash(one, [other]):
        assert not (reference_kind(ref, one) and reference_kind(ref, other))


@given(_NAMES, _NAMES)
def test_a_clash_is_symmetric(one: Names, other: Names) -> None:
    """In either order of creation."""
    assert bool(clash(one, [other])) == bool(clash(other, [one]))


def test_a_name_in_another_case_is_taken() -> None:
    """Otherwise a name in a third case would match both."""
    assert "already has the name 'Shop'" in clash(Names("other", "sHOP"), [SHOP])


@pytest.mark.parametrize(
    ("ref", "meant"), [("shpo", "Shop"), ("Sho", "Shop"), ("acc-1555000001", SHOP.id), ("x", "")]
)
def test_a_misspelled_reference(ref: str, meant: str) -> None:
    """The nearest name or id, if one is near."""
    assert similar(ref, [SHOP, Names("depot-1", "Depot")]) == meant


def test_a_number_has_one_form() -> None:
    """With its plus, or it is none."""
    assert number_of("00 1 555 000 0001") == "+15550000001"
    assert number_of("12") == number_of("shop") == number_of("+1555000000٣") == ""
