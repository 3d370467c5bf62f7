"""The rules for signed tokens, without keys."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.firebase import ISSUER, PROJECT, Signer, app_claims, b64, user_claims
from wad.core.id_token import BadToken, Claims, Expected, check, parse

NOW = 1_700_000_000.0
WANTED = Expected(PROJECT, ISSUER)


def claims(**changes: Any) -> Claims:
    """The claims of a token that was signed."""
    return parse(Signer().token(user_claims(NOW, **changes))).claims


def code_of(said: Claims) -> str:
    """Why it is refused; empty when it is not."""
    try:
        check(said, WANTED, NOW)
    except BadToken as error:
        return error.code
    return ""


def test_a_good_token() -> None:
    """Its parts come out, and nothing is wrong with it."""
    token = parse(Signer().token(user_claims(NOW)))
    assert (token.key, token.claims.sub, token.claims.email) == (
        "key-1",
        "uid-1",
        "anna@example.org",
    )
    check(token.claims, WANTED, NOW)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "another-project"}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"iss": "https://securetoken.google.com/another"}, "wrong_issuer"),
        ({"exp": NOW - 61}, "token_expired"),
        ({"exp": NOW - 59}, ""),
        ({"iat": NOW + 61}, "token_not_yet_valid"),
        ({"auth_time": NOW + 61}, "token_not_yet_valid"),
        ({"iat": NOW + 59}, ""),
        ({"sub": ""}, "invalid_subject"),
        ({"sub": "x" * 129}, "invalid_subject"),
        ({"auth_time": None, "email": None}, ""),
    ],
)
def test_what_must_be_true(changes: dict[str, Any], code: str) -> None:
    """Each rule has its code; clocks may differ by a minute."""
    assert code_of(claims(**changes)) == code


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "RS512", ""])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    """A token does not choose how it is checked."""
    with pytest.raises(BadToken) as caught:
        parse(Signer().token(user_claims(NOW), alg=algorithm))
    assert caught.value.code == "wrong_algorithm"


def test_one_of_several_audiences() -> None:
    """App Check names the project by number and by id."""
    said = parse(Signer().token(app_claims(NOW))).claims
    check(said, Expected("projects/123456789", said.iss), NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c.d",
        "..",
        "a.b.c",
        f"{b64(b'{}')}.{b64(b'{}')}.",
        f"{b64(b'[]')}.{b64(b'1')}.x",
    ],
)
def test_what_is_no_token(text: str) -> None:
    """Refused, and not repeated."""
    with pytest.raises(BadToken) as caught:
        parse(text)
    assert caught.value.code == "invalid_token"


@given(
    st.one_of(
        st.text(),
        st.lists(st.binary(), min_size=3, max_size=3).map(lambda p: ".".join(map(b64, p))),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Never anything else."""
    with suppress(BadToken):
        parse(text)
