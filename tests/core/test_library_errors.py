"""The library's error texts as operators see them."""

from __future__ import annotations

import pytest

from wad.core.library_errors import ban, is_ban, refused_version, why_it_ended

_DIAL = (
    "failed to dial whatsapp web websocket: failed to WebSocket dial: failed to send handshake"
    ' request: Get "https://web.whatsapp.com/ws/chat": '
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "dial tcp: lookup web.whatsapp.com on 127.0.0.53:53: no such host",
            "cannot reach WhatsApp: no such host",
        ),
        (
            "dial tcp 31.13.86.51:443: connect: network is unreachable",
            "cannot reach WhatsApp: network is unreachable",
        ),
        ("dial tcp 31.13.86.51:443: i/o timeout", "cannot reach WhatsApp: i/o timeout"),
        (
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "cannot reach WhatsApp: certificate signed by unknown authority",
        ),
        (
            "proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused",
            "cannot reach the proxy: connection refused",
        ),
        ("unexpected EOF", "cannot reach WhatsApp: the connection broke off"),
        (
            "Proxy Authentication Required",
            "cannot reach WhatsApp: Proxy Authentication Required",
        ),
    ],
)
def test_a_dial_that_failed(text: str, shown: str) -> None:
    """The peer that it could not reach, and the last reason of the chain."""
    assert why_it_ended(_DIAL + text) == shown


@pytest.mark.parametrize(
    ("field", "shown", "ban"),
    [
        ("Receipt.Type", "a kind of receipt that the library does not know", False),
        ("ConnectFailure.Reason", "refused the login for a reason", False),
        ("TemporaryBan.Code", "banned for a time", True),
        ("Presence.State", "a Presence that the library does not know", False),
    ],
)
def test_an_event_that_the_library_cannot_hand_over(field: str, shown: str, ban: bool) -> None:
    """What WhatsApp did, and not which field of a protobuf is missing."""
    text = f"proto: required field neonize.{field} not set"
    assert shown in why_it_ended(text)
    assert is_ban(text) == ban


def test_until_when_it_is_banned() -> None:
    """A time, where WhatsApp gave one."""
    assert ban("spam", 90, 1_000) == "banned until 1970-01-01 00:01:31 UTC (spam)"
    assert ban("spam", 0, 1_000) == "banned for a time (spam)"


def test_other_texts_are_unchanged() -> None:
    """Better the library's than none."""
    text = "failed to upgrade database: database is locked"
    assert why_it_ended(text) == text
    assert not is_ban(text)


def test_the_version_that_was_refused() -> None:
    """Only the library's log has it."""
    line = "Client outdated (405) connect failure (client version: 2.3000.1047769893)"
    assert refused_version(line) == "2.3000.1047769893"
    assert refused_version("Client outdated") == ""
