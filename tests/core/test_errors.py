"""Errors: one table of codes, and the same class on both ends of a socket."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core import errors
from wad.core.errors import LegacyRefusal, WadError


def every(kind: type[WadError] = WadError) -> list[type[WadError]]:
    """Every class that core.errors defines."""
    below = [found for sub in kind.__subclasses__() for found in every(sub)]
    return [kind, *below] if kind.__module__ == errors.__name__ else below


CLASSES = [kind for kind in every() if kind is not LegacyRefusal]


def documented() -> dict[str, tuple[str, str, int, int]]:
    """The tree in the module's docstring: class -> (parent, code, HTTP status, exit code)."""
    assert errors.__doc__ is not None
    line = re.compile(r"^( *(?:│ +)*)(?:[├└]── )(\w+) +(\w+) +(\d+) +(\d+)$", re.MULTILINE)
    found: dict[str, tuple[str, str, int, int]] = {}
    path: list[str] = ["WadError"]
    for indent, name, code, status, exit_code in line.findall(errors.__doc__):
        depth = (len(indent) - 4) // 4 + 1
        path[depth:] = [name]
        found[name] = (path[depth - 1], code, int(status), int(exit_code))
    return found


def test_the_tree_in_the_docstring_is_true() -> None:
    """Class, parent, code, HTTP status and exit code, nothing left out on either side."""
    actual = {
        kind.__name__: (kind.__mro__[1].__name__, kind.code, kind.http_status, kind.exit_code)
        for kind in CLASSES
        if kind is not WadError
    }
    assert documented() == actual


def test_every_code_is_used_once() -> None:
    """A client rebuilds the class from it."""
    codes = [kind.code for kind in CLASSES]
    assert len(codes) == len(set(codes))
    assert all(WadError.by_code[kind.code] is kind for kind in CLASSES if kind is not WadError)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_the_wire_as_it_is(kind: type[WadError]) -> None:
    """Class, message and hint."""
    sent = kind("it broke", hint="mend it")
    got = WadError.from_wire(sent.to_wire())
    assert type(got) is kind
    assert (str(got), got.hint) == ("it broke", "mend it")


def test_a_refusal_crosses_the_wire_as_it_is() -> None:
    """With its status, code and details, which are not those of a class."""
    sent = LegacyRefusal(429, "rate_limited", "too many", {"retryAfterSeconds": 3})
    got = WadError.from_wire(sent.to_wire())
    assert isinstance(got, LegacyRefusal)
    assert (got.http_status, got.code, str(got)) == (429, "rate_limited", "too many")
    assert got.details == {"retryAfterSeconds": 3}
    assert "rate_limited" not in WadError.by_code


@pytest.mark.parametrize("status", [0, 200, 1000, "404", True, None, -1, 4.5])
def test_a_refusal_has_the_status_of_an_error(status: object) -> None:
    """Whatever the other side sends."""
    got = WadError.from_wire({"code": "x", "message": "m", "status": status, "details": [1]})
    assert 400 <= got.http_status < 600


def test_an_unknown_code_is_a_plain_error() -> None:
    """A newer daemon's error still has its message."""
    got = WadError.from_wire({"code": "novelty", "message": "m", "hint": "h"})
    assert (type(got), str(got), got.hint, got.exit_code) == (WadError, "m", "h", 1)


_ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    _ANYTHING | st.fixed_dictionaries({"code": _ANYTHING, "message": _ANYTHING, "hint": _ANYTHING})
)
def test_any_received_document_becomes_an_error(wire: Any) -> None:
    """Reading an answer never raises."""
    assert isinstance(WadError.from_wire(wire), WadError)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_a_docstring_and_a_code(kind: type[WadError]) -> None:
    """A docstring, an HTTP error status, and an exit code of a shell."""
    assert kind.__doc__
    assert 400 <= kind.http_status <= 599
    assert 1 <= kind.exit_code <= 9
