"""Signed tokens: decoded and verified, whatever text is sent as one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.firebase import Signer, b64, user_claims
from wad.api.callers.signed_tokens import parse, verify
from wad.core.id_token import BadToken

NOW = 1_700_000_000.0


def test_a_good_token() -> None:
    """Its parts are decoded, and its signature is valid."""
    signer = Signer()
    token = parse(signer.token(user_claims(NOW)))
    assert (token.key, token.claims.sub, token.claims.email) == (
        "key-1",
        "uid-1",
        "anna@example.org",
    )
    verify(token, signer.private.public_key())


def test_a_signature_of_another_key() -> None:
    """It is invalid."""
    token = parse(Signer().token(user_claims(NOW)))
    with pytest.raises(BadToken) as caught:
        verify(token, Signer("key-2").private.public_key())
    assert caught.value.code == "invalid_signature"


@pytest.mark.parametrize(
    "odd",
    [
        {"name": None},
        {"email": None, "auth_time": None},
        {"roles": [None, {"a": 1}], "nbf": "x"},
        {"email": ["a@b.c"], "email_verified": "yes", "name": 5},
    ],
)
def test_null_and_custom_claims(odd: dict[str, Any]) -> None:
    """A null claim counts as absent; claims that wad does not read may be anything."""
    claims = {name: value for name, value in user_claims(NOW).items() if name not in odd} | odd
    assert parse(Signer().token(claims)).claims.sub == "uid-1"


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "RS512", ""])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    """A token does not choose how it is checked."""
    with pytest.raises(BadToken) as caught:
        parse(Signer().token(user_claims(NOW), alg=algorithm))
    assert caught.value.code == "wrong_algorithm"


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
def test_an_invalid_token(text: str) -> None:
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
