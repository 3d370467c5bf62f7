"""The location of a session, and which instances must not run the account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.session_location import SessionLocation, elsewhere_reason, is_elsewhere

DEVICE = "15550000001:3@s.whatsapp.net"
THERE = SessionLocation(account="acc-1", instance="b", since_ms=1_700_000_000_000, jid=DEVICE)


@pytest.mark.parametrize(
    ("place", "jid", "elsewhere"),
    [
        (None, None, False),
        (None, DEVICE, False),
        (THERE, None, True),
        (THERE, DEVICE, True),
        (THERE, "", True),
        (THERE, "15550000001:4@s.whatsapp.net", False),
    ],
    ids=["nobody knows it", "new here", "not here", "a copy", "who knows", "a device of its own"],
)
def test_who_leaves_it_alone(
    place: SessionLocation | None, jid: str | None, elsewhere: bool
) -> None:
    """Whoever has no session, or a copy of the one that is there."""
    assert is_elsewhere(place, "a", jid) is elsewhere


@given(st.one_of(st.none(), st.text()))
def test_it_is_never_elsewhere_where_it_is(jid: str | None) -> None:
    """Whatever session is stored there."""
    assert not is_elsewhere(THERE, "b", jid)


def test_it_says_where_and_since_when() -> None:
    """For the person who asks why the account does not run."""
    assert elsewhere_reason(THERE) == "its session is on b, since 2023-11-14 22:13 UTC"
