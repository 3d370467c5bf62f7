"""What an error of a store means for an audit, in the words of the reference's scripts.

See docs/internals/replaced-backend.md#scripts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from wad.core.errors import WadError

_URL: Final = re.compile(r"https?://[^\s\"'<>)\]]+")
_CONSOLES: Final = ("console.firebase.google.com", "console.cloud.google.com")
_FAILED_PRECONDITION: Final = 9  # gRPC's number, with which Firestore asks for an index
_OF_NUMBERS: Final = {
    9: "missing_index", 16: "missing_credentials", 7: "permission_denied", 14: "unavailable", 4: "unavailable",
}  # fmt: skip
_WORDS: Final = (
    ("missing_index", ("index",)),
    ("missing_credentials", ("unauthenticated", "default credentials")),
    ("permission_denied", ("permission-denied", "permission_denied", "permission denied", "denied")),
    ("unavailable", ("unavailable", "timeout", "timed out", "deadline")),
)  # fmt: skip


class FirestoreRefusal(NamedTuple):
    """gRPC's number and whole text of an answer of Firestore's."""

    number: int
    message: str


def refusal_of(error: WadError) -> FirestoreRefusal | None:
    """What Firestore answered; None for an error that did not come over its wire."""
    status = getattr(error.__cause__, "grpc_status_code", None)
    if status is None:
        return None
    return FirestoreRefusal(int(status.value[0]), str(getattr(error.__cause__, "message", error)))


def is_missing_index(error: WadError) -> bool:
    """Whether a query was refused for want of an index."""
    refused = refusal_of(error)
    return refused is not None and refused.number == _FAILED_PRECONDITION


def hint_of(code: int | str, message: str) -> str:
    """One of missing_index, missing_credentials, permission_denied, unavailable, unknown."""
    if str(code).isdecimal() and (known := _OF_NUMBERS.get(int(code))):
        return known
    text = f"{code} {message}".lower()
    for hint, words in _WORDS:
        if any(word in text for word in words):
            return hint
    return "unknown"


def index_link(message: str) -> str | None:
    """The page that creates the index which a query lacks; only an address of the console itself."""
    for url in _URL.findall(message):
        link = url.rstrip(".,;")
        if link.partition("://")[2].partition("/")[0].lower() in _CONSOLES:
            return str(link)
    return None
