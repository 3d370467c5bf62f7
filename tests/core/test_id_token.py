"""The rules for signed tokens, without keys."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.firebase import ISSUER, PROJECT, app_claims, user_claims
from wad.core.id_token import BadToken, Claims, Expected, check

NOW = 1_700_000_000.0
WANTED = Expected(PROJECT, ISSUER)


def claims(**changes: Any) -> Claims:
    """The claims of a user's token."""
    return msgspec.convert(user_claims(NOW, **changes), Claims)


def code_of(said: Claims) -> str:
    """Why it is refused; empty when it is not."""
    try:
        check(said, WANTED, NOW)
    except BadToken as error:
        return error.code
    return ""


def test_a_good_token() -> None:
    """Nothing is wrong with it."""
    check(claims(), WANTED, NOW)


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
def test_each_required_claim(changes: dict[str, Any], code: str) -> None:
    """Each rule has its code; clocks may differ by a minute."""
    assert code_of(claims(**changes)) == code


def test_one_of_several_audiences() -> None:
    """App Check names the project by number and by id."""
    said = msgspec.convert(app_claims(NOW), Claims)
    check(said, Expected("projects/123456789", said.iss), NOW)
