"""What of a text is masked: numbers and addresses, and nothing that an operator searches for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.masking import masked, scrubbed

ID = "3EB0123456789ABCDEF0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("40712345678@s.whatsapp.net", "4071****78@s.whatsapp.net"),
        ("40712345678:12@s.whatsapp.net", "4071****78:12@s.whatsapp.net"),
        ("+40 712 345-678 called", "+4071****78 called"),
        ("a40712345678b", "a4071****78b"),
        ("acc-40712345678", "acc-4071****78"),
        ("120363041234567890@g.us", "1203****90@g.us"),
        ("17644260000001@lid", "1764****01@lid"),
        ("1764426000000@lid", "1764****00@lid"),
        (f"message {ID} of 40712345678", f"message {ID} of 4071****78"),
        ("4071234567812345", "4071****45"),
        ("code 123456 for +40700000001!", "code 123456 for +4070****01!"),
        ("+20 112 345 6789", "+2011****89"),
        ("201123456789", "2011****89"),
        ("20261125", "2026****25"),
        ("20261125101010", "2026****10"),
        ("20261325T101010Z", "2026****25T101010Z"),
        ("20261125T101010Z@s.whatsapp.net", "2026****25T101010Z@s.whatsapp.net"),
        ("pid 40712345678", "pid 4071****78"),
        ("rapid 4071234", "rapid 4071****34"),
        ("40712345678 messages", "4071****78 messages"),
        ("3EB0123456789ABCDEF0@g.us", "3EB0123****89ABCDEF0@g.us"),
    ],
)
def test_numbers_and_addresses_are_masked(text: str, shown: str) -> None:
    """In any spelling: enough to recognise, not enough to call."""
    assert scrubbed(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "nobody",
        f"message {ID}",
        "message 3A5F0C9D1E2B3A4F5C6D, of 3",
        "false_550e8400-e29b-41d4-a716-446655440000",
        "spool.db.damaged-20261125T101010Z",
        "spool.db.damaged-20261125T101010Z-02",
        "session.db.logged-out-20261125T235959Z",
        "/var/lib/wad/sessions/.removed/shop.20261125T101010Z",
        "undo-20261125-101010.json",
        "2026-11-25T10:10:10.123Z",
        "2026-11-25T10:10:10.123456789Z",
        "port 8080 in 300 s",
        "pid 4194303 has the state directory",
        "epoch 1234567 after epoch 1234566",
        "row 12345678 of the spool",
        "rows: 1000001",
        "wad 1.2.3 with neonize 0.5.2, WhatsApp 2.3000.1025192210",
        "at most 268435456 bytes",
        "request req_1764426000000",
        "wad-7f3a9c0e1d2b4a5f8e7d6c5b4a392817",
        "errno 12",
    ],
)
def test_identifiers_for_searching_stay(text: str) -> None:
    """Ids, times in names of files, processes, epochs, ports, rows, versions, sizes."""
    assert scrubbed(text) == text


@given(st.text(), st.from_regex(r"[1-9][0-9]{9,14}", fullmatch=True), st.text("ghi @:/_,\n"))
def test_no_number_survives_in_any_text(before: str, number: str, after: str) -> None:
    """Whatever is around it, the whole number is not in the line."""
    assert number not in scrubbed(f"{before} {number}{after}")


@given(st.text())
def test_masking_again_changes_nothing(text: str) -> None:
    """What passes two masks is masked once."""
    assert masked(masked(text)) == masked(text)
