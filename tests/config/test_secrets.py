"""Secrets: neither shown nor quoted, and not left where every user can read them."""

from __future__ import annotations

import pytest

from tests.config.loaded import NOWHERE, Write, defaults, problems
from wad.config import examine, load


def test_secret_is_in_no_representation() -> None:
    """Neither repr of what was loaded nor the shown value holds a secret."""
    loaded = defaults(ADMIN_TOKEN="s3cret")
    assert "s3cret" not in repr(loaded)
    assert loaded.origins["http.admin_token"].shown == "(set)"


def test_bad_secret_is_not_quoted() -> None:
    """The message about a bad token does not hold it."""
    (found,) = problems(None, {"ADMIN_TOKEN": "s3cret token"})
    assert found == "environment ADMIN_TOKEN: http.admin_token must be ASCII without blanks"


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_password_of_a_proxy_is_not_shown(scheme: str) -> None:
    """Neither a good nor a bad proxy URL gives its password away."""
    url = f"{scheme}://u:p4ss@proxy:1"
    loaded, found = examine(None, {"WAD_ENGINE_PROXY": url}, default_file=NOWHERE)
    assert "p4ss" not in repr(found) + repr(loaded)
    if loaded:
        assert loaded.origins["engine.proxy"].shown == "http://***@proxy:1"


@pytest.mark.parametrize("text", ["[http]\nadmin_token = 'x'", "[engine]\nproxy = 'http://u:p@h'"])
def test_world_readable_file_with_a_secret_is_warned_about(write: Write, text: str) -> None:
    """Every user can read the token: the warning contains the command that fixes it."""
    text = text.replace("'x'", "'abcdefghijklmnopqrstuvwxyz'")
    (warning,) = load(write(text, 0o644), {}).warnings
    assert "every user can read the file" in warning
    assert load(write(text, 0o640), {}).warnings == ()


def test_world_readable_file_without_secrets_is_fine(write: Write) -> None:
    """There is nothing to hide in a port."""
    assert load(write("[http]\nport = 9", 0o644), {}).warnings == ()


@pytest.mark.parametrize(
    "token", ["s3cret", "x" * 19, "x" * 40, "changeme", "abababababababababababab"]
)
def test_a_token_that_can_be_guessed_is_warned_about(token: str) -> None:
    """The warning has its source and how to make a better one; never the token."""
    (warning,) = defaults(ADMIN_TOKEN=token).warnings
    assert warning.startswith("environment ADMIN_TOKEN: http.admin_token has fewer than ")
    assert "wadctl token create" in warning
    assert token not in warning


@pytest.mark.parametrize("token", ["", "abcdefghijklmnopqrst", "wad_" + "0Zk-_9" * 7 + "pQ"])
def test_a_long_token_is_fine(token: str) -> None:
    """As is none."""
    assert defaults(ADMIN_TOKEN=token).warnings == ()
