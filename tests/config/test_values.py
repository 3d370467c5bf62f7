"""One value: what it must be, in a file and in a variable."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.loaded import Write, defaults, problems
from wad.config import SETTINGS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http.port = '9'", "http.port must be a whole number, not '9'"),
        ("http.port = true", "http.port must be a whole number, not true"),
        ("http.port = 65536", "http.port must be from 0 to 65535, not 65536"),
        ("http.enabled = 1", "http.enabled must be true or false, not 1"),
        ("state.dir = 'var'", "state.dir must be an absolute path, not 'var'"),
        ("state.dir = '/a\\u0000'".replace("'", '"'), "state.dir must be printable, on one line"),
        ("log.level = 'loud'", "log.level must be one of debug, info, warning, error, not 'loud'"),
        ("lease.ttl = {}", "lease.ttl must be a number, not a table"),
        ("lease.ttl = [1]", "lease.ttl must be a number, not a list"),
        ("lease.ttl = nan", "lease.ttl must be a number, not nan"),
        ("lease.ttl = inf", "lease.ttl must be a number, not inf"),
        (f"lease.ttl = 1{'0' * 400}", "lease.ttl must be a number, not 1000"),
        ("lease.ttl = 0", "lease.ttl must be more than 0 and at most 86400, not 0"),
        ("engine.proxy = 'ftp://x'", "engine.proxy must be empty, or a URL"),
        ("engine.proxy = 'http://'", "engine.proxy must be empty, or a URL"),
        ("engine.device_name = ''", "engine.device_name must be 1 to 50 characters, not ''"),
        ("instance.id = 'a b'", "instance.id must be 1 to 128 of"),
        (f"control.socket = '/{'x' * 107}'", "control.socket must be at most 107 bytes long"),
        ("store.kind = 'mongo'", "store.kind must be one of sqlite, firestore, not 'mongo'"),
    ],
)
def test_error_of_a_bad_value_has_the_rule(write: Write, text: str, problem: str) -> None:
    """Type, range and form are checked, each with its sentence."""
    path = write(text)
    (found,) = problems(path)
    assert found.startswith(f"{path}:1: {problem}")


@pytest.mark.parametrize("text", ["", "x", "1.5", "1_000", "９", "-", "1" * 5000])
def test_bad_number_in_a_variable_is_named(text: str) -> None:
    """Only plain decimal numbers pass; the message names the variable."""
    found = problems(None, {"PORT": text})
    assert [each.split(":")[0] for each in found] == (["environment PORT"] if text else [])


@pytest.mark.parametrize(("text", "value"), [("yes", True), ("OFF", False), ("1", True)])
def test_booleans_in_variables_have_the_usual_values(text: str, value: bool) -> None:
    """yes/no, on/off, 1/0, true/false in any case."""
    assert defaults(WAD_HTTP_ENABLED=text).config.http.enabled is value


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


@given(
    st.dictionaries(
        st.sampled_from([name for row in SETTINGS.values() for name in row.env]), _TEXTS
    )
)
def test_any_environment_gives_a_configuration_or_problems(environ: dict[str, Any]) -> None:
    """Whatever the variables hold, every problem names where it is."""
    for problem in problems(None, environ):
        assert re.match(r"(environment [A-Z_]+|default): [a-z]+\.[a-z_]+ ", problem)
