"""The rules about Firestore's documents, without a Firestore."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.audit.firestore.decode import (
    ABSENT,
    DocumentLocation,
    chat_of,
    is_orphan_receipt,
    location_of,
    message_row,
    thread_row,
)
from wad.audit.firestore.rows import _ranges
from wad.audit.firestore.rules import right_status, right_times, with_receipt
from wad.audit.stamps import stamp_of

ANN = "40700000001@s.whatsapp.net"
YEAR_2002, YEAR_2033 = 1_010_000_000_000, 1_999_999_999_999
TIMES = st.integers(YEAR_2002, YEAR_2033)


def _lies_in(value: Any, low: Any, high: Any) -> bool:
    """Whether Firestore's comparison includes it: values of one type only."""
    numbers = (int, float)
    alike = isinstance(value, type(low)) or (isinstance(value, numbers) and isinstance(low, numbers))  # fmt: skip
    return alike and value >= low and (high is None or value < high)


@given(
    TIMES,
    st.integers(0, 10**12),
    st.sampled_from(["timestamp", "iso", "offset", "digits", "digits_s", "ms", "s", "double"]),
    st.integers(-12, 14),
)
def test_every_document_of_a_window_is_read_once(
    since_ms: int, later: int, kind: str, hours: int
) -> None:
    """Whatever the type of its time; otherwise an audit misses it, or counts it twice."""
    ms = min(since_ms + later, YEAR_2033) // 1000 * 1000
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    written: dict[str, Any] = {
        "timestamp": moment,
        "iso": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "offset": moment.astimezone(timezone(timedelta(hours=hours))).isoformat(),
        "digits": str(ms),
        "digits_s": str(ms // 1000),
        "ms": ms,
        "s": ms // 1000,
        "double": float(ms),
    }
    value = written[kind]
    found = stamp_of(value).ms
    times = sum(_lies_in(value, low, high) for low, high in _ranges(since_ms))
    assert found == ms
    assert times == 1 if ms >= since_ms else times <= 1


@given(st.integers(0, 2 * YEAR_2033), TIMES)
def test_no_document_is_read_twice(since_ms: int, ms: int) -> None:
    """The ranges of a type do not overlap."""
    for value in (str(ms), str(ms // 1000), ms, ms // 1000, float(ms), "2026-01-21T12:53:20Z", ""):
        assert sum(_lies_in(value, low, high) for low, high in _ranges(since_ms)) <= 1


@pytest.mark.parametrize(
    ("thread", "fields", "chat"),
    [
        (f"a__{ANN}", {"clientJid": ANN}, ANN),
        (f"a__{ANN}", {}, ANN),
        ("a__[object Object]", {"clientJid": {"canonicalJid": ANN}}, ANN),
        ("a__[object Object]", {"key": {"remoteJid": ANN}}, ANN),
        ("a__[object Object]", {"rawJid": "40700000001@c.us"}, "40700000001@c.us"),
        ("a__[object Object]", {"normalizedPhone": "+40700000001"}, ANN),
        ("a__[object Object]", {"senderJid": ANN, "direction": "inbound"}, ANN),
        ("a__[object Object]", {"senderJid": ANN, "isGroup": True}, "[object Object]"),
        ("a__[object Object]", {"senderJid": ANN, "direction": "outbound"}, "[object Object]"),
        ("a__[object Object]", {"normalizedPhone": "none"}, "[object Object]"),
    ],
)
def test_the_conversation_of_a_message(thread: str, fields: Any, chat: str) -> None:
    """From its address, its thread, WhatsApp's key, or the sender of an inbound one; never from the sender in a
    group."""
    assert chat_of(thread, fields) == chat


def test_an_empty_document() -> None:
    """It is a row all the same, without a time."""
    row = message_row(DocumentLocation(f"one__{ANN}", "x"), {})
    assert (row.account, row.chat, row.stamp, row.text) == ("one", ANN, ABSENT, "")
    assert row.id == f"threads/one__{ANN}/messages/x"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("threads/t/messages/m", DocumentLocation("t", "m")),
        ("chats/t/messages/m", None),
        ("threads/t/messages/m/x/y", None),
    ],
)
def test_the_location_of_a_message(path: str, location: DocumentLocation | None) -> None:
    """Other collections of that name are ignored."""
    assert location_of(path) == location


def test_a_thread_that_redirects_to_itself() -> None:
    """It is a normal thread; one that redirects to another is not."""
    assert thread_row("a__1@lid", {"redirectTo": "a__1@lid"}) is not None
    assert thread_row("a__1@lid", {"redirectTo": "a__2@s.whatsapp.net"}) is None


@pytest.mark.parametrize(
    ("fields", "alone"),
    [
        ({"status": "read", "updatedAt": 1}, True),
        ({"status": "read", "tsClient": None, "body": ""}, True),
        ({"status": "read", "body": "text"}, False),
        ({"status": "read", "tsClient": "2026"}, False),
        ({"status": "read", "direction": "outbound"}, False),
        ({"updatedAt": 1}, False),
    ],
)
def test_a_receipt_alone(fields: Any, alone: bool) -> None:
    """It has nothing of a message but its status."""
    assert is_orphan_receipt(fields) is alone


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "delivered"}, "sent"),
        ({"status": "read"}, "delivered"),
        ({"status": "read", "readAt": 1}, None),
        ({"status": "read", "deliveredAt": 1}, "delivered"),
        ({"status": "delivered", "deliveredAt": 1}, None),
        ({"status": "sent"}, None),
        ({"status": "queued"}, None),
        ({"status": None}, None),
        ({"status": "delivered", "statusBeforeRepair": "read"}, None),
        ({"status": "delivered", "direction": "inbound"}, None),
    ],
)
def test_a_status_that_is_one_too_far(fields: Any, status: str | None) -> None:
    """Only our own messages, once, and not against a receipt."""
    assert right_status({"direction": "outbound", **fields}) == status


@pytest.mark.parametrize(
    ("shown", "receipt", "status"),
    [
        ("sent", {"status": "read"}, "delivered"),
        ("sent", {"status": "delivered"}, None),
        ("sent", {"status": "delivered", "deliveredAt": 1}, "delivered"),
        ("read", {"status": "read"}, None),
        (None, {"status": "read"}, None),
        ("sent", {"status": "nonsense"}, None),
    ],
)
def test_a_receipt_advances_a_status(shown: Any, receipt: Any, status: str | None) -> None:
    """It never reverts it."""
    assert with_receipt({"status": shown}, receipt) == status


def test_times() -> None:
    """A Timestamp stays, everything else is corrected; an unknown time stays unknown."""
    now = datetime(2026, 1, 21, 12, 53, 20, tzinfo=UTC)
    ms = 1_769_000_000_000
    assert right_times({"tsClient": now, "createdAtMs": ms}) == {}
    assert right_times({"tsClient": now, "createdAtMs": float(ms)}) == {"createdAtMs": ms}
    assert right_times({"tsClient": "2026-01-21T12:53:20Z"}) == {"tsClient": now}
    assert right_times({"key": {"timestamp": ms // 1000}}) == {"tsClient": now}
    assert right_times({"tsClient": None, "createdAt": now}) == {"tsClient": now}
    assert right_times({"tsClient": "soon"}) is None
