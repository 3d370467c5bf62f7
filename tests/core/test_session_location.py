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
    ids=["unknown", "new here", "not here", "a copy", "unreadable", "another device"],
)
def test_an_account_is_elsewhere(
    place: SessionLocation | None, jid: str | None, elsewhere: bool
) -> None:
    """This machine has no session, or a copy of the one on the other machine."""
    assert is_elsewhere(place, "a", jid) is elsewhere


@given(st.one_of(st.none(), st.text()))
def test_it_is_never_elsewhere_where_it_is(jid: str | None) -> None:
    """Whatever session is stored there."""
    assert not is_elsewhere(THERE, "b", jid)


def test_the_reason_has_the_place_and_the_time() -> None:
    """The reason why the account does not run here."""
    assert elsewhere_reason(THERE) == "its session is on b, since 2023-11-14 22:13 UTC"
