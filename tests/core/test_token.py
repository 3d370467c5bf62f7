"""Static tokens: made once, kept as a hash."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.errors import BadInput
from wad.core.token import Role, fresh, hashed, is_list, named, parse


def test_a_token_is_long_and_random() -> None:
    """43 characters from 32 random bytes, valid in a URL and in a header."""
    one, other = fresh(secrets.token_bytes), fresh(secrets.token_bytes)
    assert one != other
    assert one.startswith("wad_")
    assert len(one) == 47


def test_the_line_holds_no_token() -> None:
    """The configuration has the hash alone."""
    line = str(named("ops", Role.ADMIN, "wad_secret"))
    assert line == f"ops:admin:{hashed('wad_secret')}"
    assert "wad_secret" not in line


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True), st.sampled_from(Role), max_size=5
    ),
    st.sampled_from(["\n", " ", ",", ", ", "\r\n"]),
)
def test_lines_are_read_back(wanted: dict[str, Role], between: str) -> None:
    """Whatever parts them."""
    tokens = [named(name, role, f"token of {name}") for name, role in wanted.items()]
    assert parse(between.join(map(str, tokens))) == tuple(tokens)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never anything else, and a refusal does not repeat the text."""
    assert is_list(text) in (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "ops:admin",
        f"ops:root:{'0' * 64}",
        f"ops:admin:{'0' * 63}",
        f"o ps:admin:{'0' * 64}",
        f"ops:admin:{'0' * 64} ops:viewer:{'1' * 64}",
        f"ops:admin:{'0' * 64} other:viewer:{'0' * 64}",
    ],
)
def test_an_invalid_list_is_refused(text: str) -> None:
    """A role that is none, half a hash, a name or a token twice."""
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert "0000" not in str(caught.value)


def test_a_name_is_checked() -> None:
    """A line has colons and blanks as separators."""
    with pytest.raises(BadInput, match="not a valid token name"):
        named("a:b", Role.VIEWER, "x")


def test_wadctl_makes_one() -> None:
    """Without a daemon; the line is that of the token."""
    done = subprocess.run(
        [sys.executable, "-m", "wadctl", "token", "create", "ops", "--role", "viewer", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    made = json.loads(done.stdout)
    (token,) = parse(made["line"])
    assert (token.name, token.role, token.sha256) == ("ops", Role.VIEWER, hashed(made["token"]))
