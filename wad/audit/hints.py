"""The hint for a store error, in the terms of the reference's scripts.

See docs/internals/replaced-backend.md#scripts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from wad.core.errors import WadError

_URL: Final = re.compile(r"https?://[^\s\"'<>)\]]+")
_CONSOLES: Final = ("console.firebase.google.com", "console.cloud.google.com")
_FAILED_PRECONDITION: Final = 9  # gRPC's number; Firestore uses it for a missing index
_OF_NUMBERS: Final = {
    9: "missing_index", 16: "missing_credentials", 7: "permission_denied", 14: "unavailable", 4: "unavailable",
}  # fmt: skip
_PATTERNS: Final = (
    ("missing_index", ("index",)),
    ("missing_credentials", ("unauthenticated", "default credentials")),
    ("permission_denied", ("permission-denied", "permission_denied", "permission denied", "denied")),
    ("unavailable", ("unavailable", "timeout", "timed out", "deadline")),
)  # fmt: skip


class FirestoreRefusal(NamedTuple):
    """A refusal by Firestore: gRPC's number and the full message."""

    number: int
    message: str


def refusal_of(error: WadError) -> FirestoreRefusal | None:
    """Firestore's answer; None for an error of another origin."""
    status = getattr(error.__cause__, "grpc_status_code", None)
    if status is None:
        return None
    return FirestoreRefusal(int(status.value[0]), str(getattr(error.__cause__, "message", error)))


def is_missing_index(error: WadError) -> bool:
    """Whether a query was refused since an index is missing."""
    refused = refusal_of(error)
    return refused is not None and refused.number == _FAILED_PRECONDITION


def hint_of(code: int | str, message: str) -> str:
    """One of missing_index, missing_credentials, permission_denied, unavailable, unknown."""
    if str(code).isdecimal() and (known := _OF_NUMBERS.get(int(code))):
        return known
    text = f"{code} {message}".lower()
    for hint, patterns in _PATTERNS:
        if any(pattern in text for pattern in patterns):
            return hint
    return "unknown"


def index_link(message: str) -> str | None:
    """The console page that creates the missing index; None for a URL outside of Google's console."""
    for url in _URL.findall(message):
        link = url.rstrip(".,;")
        if link.partition("://")[2].partition("/")[0].lower() in _CONSOLES:
            return str(link)
    return None
