"""What an error of a store means for an audit, in the words of the reference's scripts (reference-backend.md 8)."""

from __future__ import annotations

import re
from typing import Final

_URL: Final = re.compile(r"https?://[^\s\"'<>)\]]+")
_CONSOLES: Final = ("console.firebase.google.com", "console.cloud.google.com")
_FAILED_PRECONDITION: Final = 9  # gRPC's number, with which Firestore asks for an index
_WORDS: Final = (
    ("missing_index", ("index",)),
    ("missing_credentials", ("unauthenticated", "default credentials")),
    ("permission_denied", ("permission-denied", "permission_denied", "permission denied", "denied")),
    ("unavailable", ("unavailable", "timeout", "timed out", "deadline")),
)  # fmt: skip


def hint_of(code: int | str, message: str) -> str:
    """One of missing_index, missing_credentials, permission_denied, unavailable, unknown."""
    if code in (_FAILED_PRECONDITION, str(_FAILED_PRECONDITION)):
        return "missing_index"
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
