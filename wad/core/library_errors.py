"""The library's error texts, translated into sentences for operators.  Pure.

Sources of the texts: whatsmeow's client.go and connectionevents.go, Go's net and tls, and protobuf's error about an
event that neonize could not serialize (docs/internals/library.md#refusals); each as neonize 0.5.2 returned it against
the test server.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

LONGEST_BAN: Final = 10 * 366 * 86_400
"""Seconds; a longer ban counts as permanent, and its end may not fit into a date."""
_DIAL: Final = re.compile(r"failed to dial whatsapp web websocket: (?:.*: )?(.+)", re.DOTALL)
_PROXY: Final = re.compile(r"\bproxyconnect\b|\bsocks connect\b")
_BROKEN_OFF: Final = frozenset({"EOF", "unexpected EOF"})
_UNKNOWN: Final = re.compile(r"required field neonize\.(\w+)\.\w+ not set")
_UNKNOWN_EVENTS: Final = {
    "ConnectFailure": "WhatsApp refused the login for a reason that the library does not know",
    "Receipt": "WhatsApp sent a kind of receipt that the library does not know",
    "TemporaryBan": "banned for a time, for a reason that the library does not know",
}
_LONGEST_LINE: Final = 2000  # characters of a line that are parsed
_WEB_VERSION: Final = re.compile(r"Client outdated \(405\).*\(client version: ([\d.]+)\)")


def why_it_ended(text: str) -> str:
    """One sentence for an error text that the library's connect() returned."""
    if dial := _DIAL.fullmatch(text):
        what = "the proxy" if _PROXY.search(text) else "WhatsApp"
        why = "the connection broke off" if dial[1] in _BROKEN_OFF else dial[1]
        return f"cannot reach {what}: {why}"
    if unknown := _UNKNOWN.search(text):
        return _UNKNOWN_EVENTS.get(
            unknown[1], f"WhatsApp sent a {unknown[1]} that the library does not know"
        )
    return text


def ban(code: str, seconds: int, now_ms: int) -> str:
    """One sentence for a ban that ends in `seconds` (0: unknown)."""
    if not seconds:
        return f"banned for a time ({code})"
    end = datetime.fromtimestamp(now_ms // 1000 + seconds, UTC)
    return f"banned until {end:%Y-%m-%d %H:%M:%S} UTC ({code})"


def ban_seconds(given: int) -> int:
    """The length of a ban, in seconds, for which WhatsApp gave `given` seconds."""
    return min(max(0, given), LONGEST_BAN)


def is_ban(text: str) -> bool:
    """Whether connect() failed because of a ban with a code that the library does not know."""
    unknown = _UNKNOWN.search(text)
    return unknown is not None and unknown[1] == "TemporaryBan"


def refused_version(line: str) -> str:
    """The refused version of WhatsApp Web in a line of the library's log; empty for other lines."""
    found = _WEB_VERSION.search(line[:_LONGEST_LINE])
    return found[1] if found else ""
