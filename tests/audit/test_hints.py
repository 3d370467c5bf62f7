"""The hints for errors of Firestore."""

from __future__ import annotations

import pytest

from wad.audit.hints import hint_of, index_link

LINK = "https://console.firebase.google.com/v1/r/project/demo/firestore/indexes?create_composite=Cg"


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (9, "FAILED_PRECONDITION", "missing_index"),
        ("9", "", "missing_index"),
        ("unknown", f"The query requires an index. You can create it here: {LINK}", "missing_index"),
        (16, "UNAUTHENTICATED: bad token", "missing_credentials"),
        (2, "Could not load the default credentials", "missing_credentials"),
        ("permission-denied", "no", "permission_denied"),
        (7, "7 PERMISSION_DENIED: Missing or insufficient permissions.", "permission_denied"),
        (14, "14 UNAVAILABLE: no connection", "unavailable"),
        (4, "Deadline exceeded after timeout", "unavailable"),
        (13, "internal", "unknown"),
    ],
)  # fmt: skip
def test_an_error_gets_a_hint(code: int | str, message: str, hint: str) -> None:
    """By gRPC's number or by the message."""
    assert hint_of(code, message) == hint


@pytest.mark.parametrize(
    ("message", "link"),
    [
        (f"create it here: {LINK}.", LINK),
        (f"see https://example.org/console.firebase.google.com, or {LINK}", LINK),
        ("see https://console.firebase.google.com.evil.example/x", None),
        ("no address at all", None),
    ],
)
def test_the_link_is_the_consoles_own(message: str, link: str | None) -> None:
    """An error's text may name other pages, which are not index links."""
    assert index_link(message) == link
