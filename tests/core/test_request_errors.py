"""Errors of requests in plain words: msgspec's own errors about real types, and texts of no known form."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from wad.core.request_errors import in_words


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    """A nested object."""

    size: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    """A request."""

    name: Annotated[str, Meta(min_length=1)] = "x"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1
    maybe: str | None = None
    inner: Inner | None = None
    each: list[Inner] = []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"name": 3}, "name: expected a text, not a whole number"),
        ({"name": ""}, "name: expected a text of length >= 1"),
        ({"limit": 0}, "limit: expected a whole number >= 1"),
        ({"limit": "5"}, "limit: expected a whole number, not a text"),
        ({"maybe": 3}, "maybe: expected a text or nothing, not a whole number"),
        ({"inner": {}}, "inner.size is missing"),
        ({"inner": {"size": 1, "x": 2}}, "inner.x is not a known field"),
        ({"each": [{"size": None}]}, "each[0].size: expected a whole number, not nothing"),
        ({"odd": 1}, "odd is not a known field"),
        ([], "expected an object, not a list"),
    ],
)
def test_the_field_is_named_in_words(value: Any, text: str) -> None:
    """No `$`, no names of types."""
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(value, Outer)
    assert in_words(str(error.value)) == text


@given(st.text())
def test_any_other_text_stays(text: str) -> None:
    """An error of a form that is not known is shown as it is."""
    if "`" not in text:
        assert in_words(text) == text
