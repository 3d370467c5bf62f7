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
_UNRELATED: Final = re.compile(r"\b(?:database|disk)\b|not connected|not logged in|client is nil")
"""Errors that are not caused by the message: SQLite cannot save the keys, or the library is not ready."""
_FINAL_REFUSALS: Final = {
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
_NEVER: Final = re.compile("|".join(map(re.escape, _FINAL_REFUSALS)))
_SERVER_ERROR: Final = re.compile(r"server returned error (\d+)")


def classify(text: str, found: str | None) -> SendResult:
    """Classify an error: whether the message left, may have left, or never will."""
    if "no LID found" in text or "is not on WhatsApp" in text:
        return Refused("not_on_whatsapp", "this number has no WhatsApp account")
    if found is None and (match := _NEVER.search(text)):
        return Refused(*_FINAL_REFUSALS[match[0]])
    if match := _SERVER_ERROR.search(text):
        return Refused(f"server_{match[1]}", f"WhatsApp refused it with error {match[1]}")
    if found is None or _NOT_WRITTEN.search(text):
        return NotSent(text, unrelated=is_unrelated(text))
    return Unknown(found, text)


def is_not_in(text: str) -> bool:
    """Whether the error means that the group does not exist, or that the account is not in it."""
    match = _NEVER.search(text)
    return match is not None and _FINAL_REFUSALS[match[0]][0] == "not_in_group"


def is_unrelated(text: str) -> bool:
    """Whether the cause of the error is something else than the message."""
    return _UNRELATED.search(text) is not None


_KINDS: Final = {"sent": Sent, "not_sent": NotSent, "refused": Refused, "unknown": Unknown}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def to_wire(result: SendResult) -> list[Any]:
    """A result as [name, field, field]."""
    return [_NAMES[type(result)], *(getattr(result, name) for name in result.__struct_fields__)]


def from_wire(shape: list[Any]) -> SendResult:
    """The inverse of to_wire()."""
    name, *fields = shape
    result: SendResult = _KINDS[name](*fields)
    return result
