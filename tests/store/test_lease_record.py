"""The lease document, whichever program wrote it and whatever its content."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wad.core.lease import Record
from wad.store.firestore.lease.document import REFERENCE_LEASE_MS, document_of, record_of, state_of

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(), st.text(), st.binary(),
    st.lists(st.integers()), st.dictionaries(st.text(), st.integers()),
)  # fmt: skip
RECORDS = st.builds(
    Record,
    holder=st.text(),
    nonce=st.text(),
    epoch=st.integers(1, 10**6),
    ttl=st.floats(1, 100),
    previous=st.text(),
    reason=st.text(),
)
NOW = 1_700_000_000_000


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    """A newer epoch of the fence is kept."""
    document = document_of(record, NOW)
    assert record_of(document, 0.0, NOW, 0) == record
    assert record_of(document, 0.0, NOW, record.epoch + 5).epoch == record.epoch + 5


@given(
    st.fixed_dictionaries(
        {},
        optional={"holderInstanceId": VALUES, "leaseUntil": VALUES, "wad": VALUES, "other": VALUES},
    ),
    st.floats(0, 1e6),
)
def test_any_document_is_read(document: dict[str, Any], age: float) -> None:
    """No document stops us: the lease is held or free; and without renewals it never stays held."""
    record = record_of(document, age, NOW, 3)
    assert record.epoch == 3
    assert record.nonce == ""
    state_of(document)
    if not record.holder:
        assert record.ttl == 0


@given(RECORDS, st.integers(NOW, NOW + REFERENCE_LEASE_MS), st.text(min_size=1))
def test_the_last_writer_holds_it(record: Record, until_ms: int, name: str) -> None:
    """The reference updates its own fields and leaves ours, which are void then."""
    document = {**document_of(record, NOW), "holderInstanceId": name, "leaseUntil": until_ms}
    if document["holderInstanceId"] == document_of(record, NOW)["holderInstanceId"]:
        return
    found = record_of(document, 1.0, NOW, record.epoch)
    assert (found.holder, found.nonce) == (name, "")
    assert found.ttl - 1.0 >= (until_ms - NOW) / 1000 - 0.001
