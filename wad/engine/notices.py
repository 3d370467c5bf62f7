"""What a worker may tell the daemon without being asked, and what it may answer.

A worker runs a library that parses what strangers send, so nothing that it says is taken on trust: each notice and
each answer has a shape, texts and numbers have bounds, and anything else is InvalidData, after which the worker is
replaced.
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
from wad.core.jid import Jid
from wad.core.library_errors import LONGEST_BAN
from wad.core.outbox import Sent
from wad.core.untrusted import LAST_MS
from wad.core.wire import MAX_WORDS
from wad.engine.port import (
    Confinement,
    FileDamaged,
    Identity,
    Receipts,
    Report,
    Spooled,
    StorageBlocked,
)

_LONGEST_CODE: Final = 1000  # characters; a QR code has about 240
_LONGEST_NAME: Final = 1000
_LONGEST_ID: Final = 200  # characters of an id of WhatsApp's; they have about 20
_NEWEST_ABI: Final = 1000
_MOST_REASONS: Final = 10

Words = Annotated[str, Meta(max_length=MAX_WORDS)]
Code = Annotated[str, Meta(min_length=1, max_length=_LONGEST_CODE, pattern=r"^[\x20-\x7e]+\Z")]
Duration = Annotated[float, Meta(ge=0, le=LONGEST_BAN)]
"""Seconds."""
Row = Annotated[int, Meta(ge=0, le=2**63 - 1)]
WaId = Annotated[str, Meta(min_length=1, max_length=_LONGEST_ID, pattern=r"^[^\x00-\x1f]+\Z")]
Milliseconds = Annotated[int, Meta(ge=0, le=LAST_MS)]
Abi = Annotated[int, Meta(ge=0, le=_NEWEST_ABI)]
Reasons = Annotated[tuple[Words, ...], Meta(max_length=_MOST_REASONS)]


@dataclass(frozen=True, slots=True)
class WorkerEnding:
    """The worker is about to end itself, and says why."""

    why: str


@dataclass(frozen=True, slots=True)
class Guarantee:
    """When WhatsApp is told that a message arrived; `why` where that is early."""

    receipts: Receipts
    why: str


@dataclass(frozen=True, slots=True)
class PhoneRequestsUnsupported:
    """Why its phone cannot be asked for anything; empty where it can."""

    why: str


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """It is logged in; who it is stands in the session's database."""


@dataclass(frozen=True, slots=True)
class Synced:
    """All that waited for this device was handed over."""


Notice = (
    Report | WorkerEnding | Guarantee | PhoneRequestsUnsupported | Confinement | LoggedIn | Synced
)

_File = Literal["session.db", "spool.db"]
_NOTICES: Final[dict[str, tuple[Any, Callable[..., Notice]]]] = {
    "connected": (tuple[()], LoggedIn),
    "synced": (tuple[()], Synced),
    "ending": (tuple[Words], WorkerEnding),
    "receipts": (tuple[Receipts, Words], Guarantee),
    "mute": (tuple[Words], PhoneRequestsUnsupported),
    "confined": (tuple[Abi, bool, Reasons, Words], Confinement),
    "qr": (tuple[Code], connection.QrShown),
    "qr_over": (tuple[()], connection.QrOver),
    "paired": (tuple[()], connection.Paired),
    "lost": (tuple[Words], connection.Lost),
    "logged_out": (tuple[Words], connection.LoggedOut),
    "replaced": (tuple[()], connection.Replaced),
    "banned": (tuple[Duration, Words], connection.Banned),
    "outdated": (tuple[Words], connection.Outdated),
    "spooled": (tuple[Row], Spooled),
    "held": (tuple[Words], StorageBlocked),
    "damaged": (tuple[_File, Words], FileDamaged),
}


def notice(method: str, params: object) -> Notice:
    """What a notice means.  Raises InvalidData."""
    if method not in _NOTICES:
        raise InvalidData(f"there is no notice {method!r}")
    kind, make = _NOTICES[method]
    return make(*convert(params, kind, f"the notice {method!r}"))


def sent(answer: object) -> Sent | str:
    """The answer to `send`: what was sent, or the library's words for why it was not.  Raises InvalidData."""
    match answer:
        case ["sent", *fields]:
            return Sent(*convert(fields, tuple[WaId, Milliseconds], "the answer to 'send'"))
        case ["failed", str(words)]:
            return words[:MAX_WORDS]
    raise InvalidData("the answer to 'send' is invalid")


def identity(jid: str, lid: str, push_name: str, session: str) -> Identity:
    """Who a session says that it is.  Raises InvalidData."""
    with decoding("the session's own address"):
        for address in filter(None, (jid, lid)):
            Jid.parse(address)
    return Identity(jid, lid, push_name[:_LONGEST_NAME], session)


T = TypeVar("T")


def convert(value: object, kind: Any, what: str) -> Any:
    """The value in its declared type.  Raises InvalidData."""
    with decoding(what):
        return msgspec.convert(value, kind)
