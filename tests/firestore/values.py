"""Documents as any program may write them: every type of value in protobuf, in any field."""

from __future__ import annotations

from typing import Any, Final

from google.cloud.firestore_v1.types import Document as _Document
from google.cloud.firestore_v1.types import Value as _Value
from hypothesis import strategies as st

from wad.store.firestore.client.decode import Snapshot, snapshot_of

Value: Final = _Value.pb()
Document: Final = _Document.pb()
_NAME: Final = "projects/p/databases/(default)/documents/"
_SECONDS: Final = st.one_of(
    st.integers(-62_135_596_800, 253_402_300_799),
    st.sampled_from([0, -1, 253_402_300_800, -62_135_596_801, (1 << 63) - 1, -(1 << 63)]),
)
TEXTS: Final = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["", "queued", "processing", "sent", "..", "a/b", "__x__", "acc-1", "\0", "2026-13-45", "1" * 30,
         "acc-1__15550000002@s.whatsapp.net", "15550000002@s.whatsapp.net", "7@lid", "x" * 2000,
         "9999-12-31T23:59:59-14:00"]
    ),
)  # fmt: skip


def _timestamp(seconds: int, nanos: int) -> Any:
    value = Value()
    value.timestamp_value.seconds = seconds
    value.timestamp_value.nanos = nanos
    return value


def _geo_point(latitude: float, longitude: float) -> Any:
    value = Value()
    value.geo_point_value.latitude = latitude
    value.geo_point_value.longitude = longitude
    return value


def _array(values: list[Any]) -> Any:
    value = Value()
    value.array_value.SetInParent()
    value.array_value.values.extend(values)
    return value


def _map(fields: dict[str, Any]) -> Any:
    value = Value()
    value.map_value.SetInParent()
    for name, each in fields.items():
        value.map_value.fields[name].CopyFrom(each)
    return value


LEAVES: Final = st.one_of(
    st.just(Value()),  # of a type that this version does not know
    st.just(Value(null_value=0)),
    st.booleans().map(lambda it: Value(boolean_value=it)),
    st.one_of(
        st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-2, 10), st.just(1_700_000_000_000_000)
    ).map(lambda it: Value(integer_value=it)),
    st.floats().map(lambda it: Value(double_value=it)),
    TEXTS.map(lambda it: Value(string_value=it)),
    st.binary(max_size=12).map(lambda it: Value(bytes_value=it)),
    st.sampled_from(
        [f"{_NAME}users/u", "projects/other/databases/(default)/documents/users/u", "", "x", "a/b/c/d/e/f/g"]
    ).map(lambda it: Value(reference_value=it)),
    st.builds(_timestamp, _SECONDS, st.integers(0, 999_999_999)),
    st.builds(_geo_point, st.floats(), st.floats()),
)  # fmt: skip


def values(names: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Any]:
    """Any value; the fields of maps have these names."""
    return st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(_array),
            st.dictionaries(names, inner, max_size=4).map(_map),
        ),
        max_leaves=6,
    )


def documents(path: str, *names: str) -> st.SearchStrategy[Snapshot]:
    """A document at this path; its fields have these names, or any."""
    known = st.sampled_from(names)
    fields = st.dictionaries(st.one_of(known, TEXTS), values(st.one_of(known, TEXTS)), max_size=8)
    written = st.one_of(
        st.just(WRITTEN), st.tuples(_SECONDS, st.integers(-(1 << 31), (1 << 31) - 1))
    )
    return st.builds(document_at, st.just(path), fields, written)


WRITTEN: Final = (1_700_000_000, 0)


def document_at(path: str, fields: dict[str, Any], written: tuple[int, int] = WRITTEN) -> Snapshot:
    """The document, as it is read; `written`: the seconds and nanoseconds when it was created and last changed."""
    document = Document(name=_NAME + path)
    for name, value in fields.items():
        document.fields[name].CopyFrom(value)
    for stamp in (document.create_time, document.update_time):
        stamp.seconds, stamp.nanos = written
    whole = Document.FromString(document.SerializeToString())
    return snapshot_of(whole)
