"""Which number belongs to which person."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.addresses import Addresses, Known, Verdict, verdict
from wad.core.change import PutAlias
from wad.core.jid import Jid

LID, OTHER_LID = "1@lid", "2@lid"
OLD, NEW = "40700000001@s.whatsapp.net", "40700000002@s.whatsapp.net"


@pytest.mark.parametrize(
    ("at_ms", "number", "owner", "expected"),
    [
        (0, None, None, Verdict.CURRENT),
        (0, Known(NEW, 9), None, Verdict.KNOWN),
        (5, Known(OLD, 4), None, Verdict.CURRENT),
        (5, Known(OLD, 5), None, Verdict.OTHER),
        (0, Known(OLD, 0), None, Verdict.OTHER),
        (5, None, Known(OTHER_LID, 4), Verdict.CURRENT),
        (5, None, Known(OTHER_LID, 5), Verdict.NOT_THEIRS),
        (5, Known(OLD, 9), Known(OTHER_LID, 4), Verdict.NOT_THEIRS),
        (5, Known(OLD, 4), Known(OTHER_LID, 4), Verdict.CURRENT),
    ],
)
def test_the_newest_report_counts(
    at_ms: int, number: Known | None, owner: Known | None, expected: Verdict
) -> None:
    """Of equally old ones the first; a number that another person has is not taken from them by an older one."""
    assert verdict(PutAlias(LID, NEW, at_ms), number, owner) is expected


def test_a_changed_number_and_its_next_owner() -> None:
    """The LID is the person; a late report of before names the present number, or the LID."""
    known = Addresses([PutAlias(LID, OLD, 1)])
    lid, old, new = Jid.parse(LID), Jid.parse(OLD), Jid.parse(NEW)
    known.put(PutAlias(LID, NEW, 2))
    assert known.canonical(lid, old, 1) == known.canonical(old, lid, 1) == new
    known.put(PutAlias(OTHER_LID, OLD, 3))
    assert known.canonical(Jid.parse(OTHER_LID), None, 4) == old
    known.put(PutAlias(OTHER_LID, NEW, 4))
    assert known.canonical(lid, None, 5) == known.canonical(lid, new, 1) == lid
    assert known.canonical(lid, new, 5) == new


@given(
    st.lists(
        st.builds(
            PutAlias,
            st.sampled_from([LID, OTHER_LID, "3@lid"]),
            st.sampled_from([OLD, NEW]),
            st.integers(0, 5),
        )
    )
)
def test_a_number_has_one_owner(reports: list[PutAlias]) -> None:
    """After any reports; and repeating the last one changes nothing."""
    known = Addresses(reports)
    numbers = [found.address for found in known._numbers.values()]
    assert len(numbers) == len(set(numbers))
    assert known._owners == {found.address: lid for lid, found in known._numbers.items()}
    before = vars(known.copy())
    for report in reports[-1:]:
        known.put(report)
    assert vars(known) == before
