"""Times in values of any type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.audit.stamps import Stamp, stamp_of
from wad.store.app_documents import moment

MS = 1_769_000_000_123


@pytest.mark.parametrize(
    ("value", "stamp"),
    [
        (datetime.fromtimestamp(MS / 1000, UTC), Stamp("timestamp", MS)),
        (datetime(2026, 1, 21, 12, 53, 20), Stamp("timestamp", 1_769_000_000_000)),  # noqa: DTZ001
        (datetime(2026, 1, 21, 14, 53, 20, tzinfo=timezone(timedelta(hours=2))), Stamp("timestamp", 1_769_000_000_000)),
        ("2026-01-21T12:53:20.123Z", Stamp("string", MS)),
        ("2026-01-21T14:53:20.123+02:00", Stamp("string", MS)),
        ("1769000000123", Stamp("string", MS)),
        ("1769000000", Stamp("string", 1_769_000_000_000)),
        ("yesterday", Stamp("string", None)),
        ("2026-13-45", Stamp("string", None)),
        ("", Stamp("string", None)),
        (MS, Stamp("integer", MS)),
        (1_769_000_000, Stamp("integer", 1_769_000_000_000)),
        (1_769_000_000.5, Stamp("double", 1_769_000_000_500)),
        (float("nan"), Stamp("double", None)),
        (0, Stamp("integer", None)),
        (-1, Stamp("integer", None)),
        (True, Stamp("boolean", None)),
        (None, Stamp("null", None)),
        (b"\x00", Stamp("bytes", None)),
        ({"_seconds": 1_769_000_000, "_nanoseconds": 123_000_000}, Stamp("map", MS)),
        ({"seconds": 1_769_000_000}, Stamp("map", 1_769_000_000_000)),
        ({"toDate": 1}, Stamp("map", None)),
        ({"_seconds": MS, "_nanoseconds": 0}, Stamp("map", None)),  # the year 58027
        (MS * 1000, Stamp("integer", MS)),  # microseconds
        (MS * 1_000_000, Stamp("integer", MS)),
        (datetime(9999, 12, 31, tzinfo=UTC), Stamp("timestamp", None)),
        (datetime(1, 1, 1, tzinfo=UTC), Stamp("timestamp", None)),
        ([], Stamp("other", None)),
    ],
)  # fmt: skip
def test_every_type_is_named_and_read(value: object, stamp: Stamp) -> None:
    """The type is reported as it is, and the time if there is one."""
    assert stamp_of(value) == stamp


@given(
    st.one_of(
        st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.booleans(),
        st.dictionaries(st.sampled_from(["_seconds", "seconds", "nanos"]), st.one_of(st.integers(), st.text())),
    )
)  # fmt: skip
def test_nothing_stored_makes_it_fail(value: object) -> None:
    """Any value has a type, and a time that Firestore can store, or none."""
    stamp = stamp_of(value)
    assert stamp.type
    assert stamp.ms is None or moment(stamp.ms)


@given(st.datetimes(min_value=datetime(1980, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_a_time_means_the_same_in_every_type(moment: datetime) -> None:
    """Timestamp, text and number of one time agree, to the millisecond."""
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    ms = stamp_of(moment).ms
    assert ms is not None
    assert stamp_of(moment.isoformat()).ms == stamp_of(ms).ms == stamp_of(str(ms)).ms == ms
