"""The notices and answers that a worker may send.

A worker runs a library that parses data of strangers, so nothing from it is trusted: each notice and each answer has a
type, texts and numbers have bounds, and anything else is InvalidData, after which the worker is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from wad.core import connection
from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.core.jid import Jid, JidKind
from wad.core.library_errors import LONGEST_BAN
from wad.core.outbox import Sent
from wad.core.untrusted import LAST_MS
from wad.core.wire import MAX_ERROR_TEXT
from wad.engine.port import (
    Confinement,
    FileDamaged,
    FoundNumber,
    Identity,
    Receipts,
    Report,
    Spooled,
    StorageBlocked,
)

_LONGEST_CODE: Final = 1000  # characters; a QR code has about 240
_LONGEST_NAME: Final = 1000
_LONGEST_ID: Final = 200  # characters of a WhatsApp id, which has about 20
_NEWEST_ABI: Final = 1000
_MOST_REASONS: Final = 10

Text = Annotated[str, Meta(max_length=MAX_ERROR_TEXT)]
Code = Annotated[str, Meta(min_length=1, max_length=_LONGEST_CODE, pattern=r"^[\x20-\x7e]+\Z")]
EightCharacters = Annotated[str, Meta(pattern=r"^[0-9A-Z]{4}-[0-9A-Z]{4}\Z")]
"""A code that links a device when it is entered on the phone."""
Duration = Annotated[float, Meta(ge=0, le=LONGEST_BAN)]
"""Seconds."""
Row = Annotated[int, Meta(ge=0, le=2**63 - 1)]
WaId = Annotated[str, Meta(min_length=1, max_length=_LONGEST_ID, pattern=r"^[^\x00-\x1f]+\Z")]
Milliseconds = Annotated[int, Meta(ge=0, le=LAST_MS)]
Abi = Annotated[int, Meta(ge=0, le=_NEWEST_ABI)]
Reasons = Annotated[tuple[Text, ...], Meta(max_length=_MOST_REASONS)]


@dataclass(frozen=True, slots=True)
class WorkerEnding:
    """The worker is about to end, with this reason."""

    why: str


@dataclass(frozen=True, slots=True)
class Guarantee:
    """When WhatsApp receives receipts; `why` they are sent early."""

    receipts: Receipts
    why: str


@dataclass(frozen=True, slots=True)
class PhoneRequestsUnsupported:
    """Why requests to its phone are not supported; empty if they are."""

    why: str


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """It is logged in; its identity is in the session's database."""


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything that waited for this device was handed over."""


Notice = (
    Report | WorkerEnding | Guarantee | PhoneRequestsUnsupported | Confinement | LoggedIn | Synced
)

_File = Literal["session.db", "spool.db"]
_NOTICES: Final[dict[str, tuple[Any, Callable[..., Notice]]]] = {
    "connected": (tuple[()], LoggedIn),
    "synced": (tuple[()], Synced),
    "ending": (tuple[Text], WorkerEnding),
    "receipts": (tuple[Receipts, Text], Guarantee),
    "phone_requests": (tuple[Text], PhoneRequestsUnsupported),
    "confined": (tuple[Abi, bool, Reasons, Text], Confinement),
    "qr": (tuple[Code], connection.QrShown),
    "qr_over": (tuple[()], connection.QrOver),
    "paired": (tuple[()], connection.Paired),
    "lost": (tuple[Text], connection.Lost),
    "logged_out": (tuple[Text], connection.LoggedOut),
    "replaced": (tuple[()], connection.Replaced),
    "banned": (tuple[Duration, Text], connection.Banned),
    "outdated": (tuple[Text], connection.Outdated),
    "spooled": (tuple[Row], Spooled),
    "held": (tuple[Text], StorageBlocked),
    "damaged": (tuple[_File, Text], FileDamaged),
}


def notice(method: str, params: object) -> Notice:
    """The notice with this name.  Raises InvalidData."""
    if method not in _NOTICES:
        raise InvalidData(f"unknown notice {method!r}")
    kind, make = _NOTICES[method]
    return make(*convert(params, kind, f"the notice {method!r}"))


def sent(answer: object) -> Sent | str:
    """The answer to `send`: the sent message, or the library's error text.  Raises InvalidData."""
    match answer:
        case ["sent", *fields]:
            return Sent(*convert(fields, tuple[WaId, Milliseconds, Text], "the answer to 'send'"))
        case ["failed", str(text)]:
            return text[:MAX_ERROR_TEXT]
    raise InvalidData("the answer to 'send' is invalid")


def found_number(answer: object) -> FoundNumber | None:
    """The answer to `find_number`: a LID and a number, either may be empty; or nothing.  Raises InvalidData."""
    what = "the answer to 'find_number'"
    if answer is None:
        return None
    lid, pn = convert(answer, tuple[Text, Text], what)
    with decoding(what):
        found = FoundNumber(*(Jid.parse(text).party() if text else None for text in (lid, pn)))
    kinds = (None if one is None else one.kind for one in (found.lid, found.pn))
    if tuple(kinds) not in _FOUND:
        raise InvalidData(f"{what} has invalid addresses")
    return found


_FOUND: Final = ((JidKind.LID, JidKind.PN), (JidKind.LID, None), (None, JidKind.PN))


def identity(jid: str, lid: str, push_name: str, session: str) -> Identity:
    """The identity in a session.  Raises InvalidData."""
    with decoding("the session's own address"):
        for address in filter(None, (jid, lid)):
            Jid.parse(address)
    return Identity(jid, lid, push_name[:_LONGEST_NAME], session)


T = TypeVar("T")


def convert(value: object, kind: Any, what: str) -> Any:
    """The value in its declared type.  Raises InvalidData."""
    with decoding(what):
        return msgspec.convert(value, kind)
