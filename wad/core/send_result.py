"""The result of a send: how the library's error texts are classified, and its form on the wire.

`found` is the WhatsApp id that the library stored with the attempt's secret before it wrote anything, or None: then the
message did not leave.  The texts: whatsmeow send.go; see docs/internals/whatsapp-protocol.md#sending.
"""

from __future__ import annotations

import re
from typing import Any, Final

from wad.core.outbox import NotSent, Refused, Sent, Unknown

SendResult = Sent | NotSent | Refused | Unknown

_NOT_WRITTEN: Final = re.compile(
    r"failed to send message node|not connected|not logged in|doesn't contain a device JID"
)
_NOT_ITS_FAULT: Final = re.compile(
    r"\b(?:database|disk)\b|not connected|not logged in|client is nil"
)
"""Errors that are not caused by the message: SQLite cannot save the keys, or the library is not ready."""
_WHY: Final = {
    "that group does not exist": (
        "not_in_group", "the group does not exist, or this account is not in it",
    ),
    "you're not participating in that group": ("not_in_group", "this account is not in the group"),
    "non-status broadcast lists": ("not_supported", "wad does not send to broadcast lists"),
    "can't send message to unknown server": (
        "not_supported", "WhatsApp's library does not send to such an address",
    ),
}  # fmt: skip
"""Texts with which the library refuses a message for good, before anything leaves (whatsmeow errors.go)."""
_NEVER: Final = re.compile("|".join(map(re.escape, _WHY)))
_SERVER_ERROR: Final = re.compile(r"server returned error (\d+)")


def classify(words: str, found: str | None) -> SendResult:
    """Classify an error: whether the message left, may have left, or never will."""
    if "no LID found" in words or "is not on WhatsApp" in words:
        return Refused("not_on_whatsapp", "this number has no WhatsApp account")
    if found is None and (match := _NEVER.search(words)):
        return Refused(*_WHY[match[0]])
    if match := _SERVER_ERROR.search(words):
        return Refused(f"server_{match[1]}", f"WhatsApp refused it with error {match[1]}")
    if found is None or _NOT_WRITTEN.search(words):
        return NotSent(words, innocent=is_innocent(words))
    return Unknown(found, words)


def is_not_in(words: str) -> bool:
    """Whether the error means that the group does not exist, or that the account is not in it."""
    match = _NEVER.search(words)
    return match is not None and _WHY[match[0]][0] == "not_in_group"


def is_innocent(words: str) -> bool:
    """Whether the cause of the error is something else than the message."""
    return _NOT_ITS_FAULT.search(words) is not None


_KINDS: Final = {"sent": Sent, "not_sent": NotSent, "refused": Refused, "unknown": Unknown}
_WORDS: Final = {kind: word for word, kind in _KINDS.items()}


def to_wire(result: SendResult) -> list[Any]:
    """A result as [name, field, field]."""
    return [_WORDS[type(result)], *(getattr(result, name) for name in result.__struct_fields__)]


def from_wire(shape: list[Any]) -> SendResult:
    """The inverse of to_wire()."""
    word, *fields = shape
    result: SendResult = _KINDS[word](*fields)
    return result
