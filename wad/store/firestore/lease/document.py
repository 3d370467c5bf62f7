"""The lease document: the fields of the replaced backend ("the reference"), and ours in the map `wad`.  Pure.

The reference (docs/internals/replaced-backend.md#lease) knows `holderInstanceId` and `leaseUntil`, ms by its own clock;
it acquires when the document is not there or `leaseUntil` has passed, extends what bears its own name, and deletes on
release. The map `wad` holds our record and a copy of both fields: if they differ from the document's, the reference
wrote last, and the record in `wad` is void.

- We respect the reference: its `leaseUntil` is compared with the server's clock.  In case its clock is slow, it counts
  as alive until one and a half renewal intervals have passed; but never longer than ten minutes without a renewal.
- It respects us: `leaseUntil` is 90 s ahead of the server's clock, as much as its own claims, so that its clock may be
  wrong by more than a minute.  We rely on our ttl alone, which is far shorter.
- It never takes our claim for its own: our name in `holderInstanceId` begins with `wad:`, since both derive their names
  from the host name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.core.lease import NEWEST_EPOCH, Record, Tenure, is_valid
from wad.core.untrusted import time_ms

REFERENCE_LEASE_MS: Final = 90_000
_REFERENCE_RENEWALS: Final = 45.0  # seconds: one and a half of its renewals, every 30 s
_LONGEST_CLAIM: Final = (
    600.0  # seconds without a renewal after which the lease is free, whatever `leaseUntil` says
)
_PREFIX: Final = "wad:"

Document = Mapping[str, Any]


class _Ours(msgspec.Struct, frozen=True, kw_only=True):
    """The map `wad`.  `until` and `holderInstanceId` repeat the reference's fields as we wrote them."""

    record: Record
    holderInstanceId: str  # noqa: N815, as in the reference's field
    until: int


def document_of(record: Record, server_ms: int) -> dict[str, Any]:
    """The document of a record.  `server_ms`: the server's time, never too early."""
    until = server_ms + REFERENCE_LEASE_MS if record.holder else 0
    name = _PREFIX + record.holder if record.holder else ""
    ours = _Ours(record=record, holderInstanceId=name, until=until)
    return {
        "holderInstanceId": name,
        "leaseUntil": until,
        "previousHolder": record.previous,
        "wad": msgspec.to_builtins(ours),
    }


def record_of(document: Document, age: float, server_ms: int, epoch: int) -> Record:
    """The record of a document that was written `age` seconds before `server_ms`, the server's time.

    `epoch`: the newest epoch according to the fence; the reference's documents have none.
    """
    ours = _ours(document)
    if ours is None:
        return _reference(document, age, server_ms, epoch)
    return msgspec.structs.replace(ours.record, epoch=max(ours.record.epoch, epoch))


State = tuple[str, str, int]
"""The holder's identity: what a renewal does not change."""


def state_of(document: Document | None) -> State | None:
    """The holder's identity in a document; None if the document does not exist."""
    if document is None:
        return None
    ours = _ours(document)
    if ours is None:
        return repr(document.get("holderInstanceId")), "", 0
    return ours.holderInstanceId, ours.record.nonce, ours.record.epoch


def _ours(document: Document) -> _Ours | None:
    try:
        with decoding("the map wad of the lease"):
            ours = msgspec.convert(document.get("wad"), _Ours)
    except InvalidData:
        return None
    as_written = (document.get("holderInstanceId"), document.get("leaseUntil"))
    agrees = as_written == (ours.holderInstanceId, ours.until)
    return ours if agrees and is_valid(ours.record) else None


def _reference(document: Document, age: float, server_ms: int, epoch: int) -> Record:
    """The record according to the reference's fields, also if the map `wad` cannot be read.

    A document that names a holder but is invalid otherwise counts as held until a renewal is overdue.
    """
    holder, until = document.get("holderInstanceId"), document.get("leaseUntil")
    if holder in (None, "") or until in (None, 0):
        return Record(holder="", nonce="", epoch=epoch, ttl=0)
    name = holder if isinstance(holder, str) else "a holder whose name is not a text"
    left = ((time_ms(until) or 0) - server_ms) / 1000
    left = max(min(left, _LONGEST_CLAIM - age), _REFERENCE_RENEWALS - age)
    return Record(holder=name, nonce="", epoch=epoch, ttl=max(0.0, age + left))


def tenure_document(tenure: Tenure) -> dict[str, Any]:
    """The document of a history entry."""
    return dict(msgspec.to_builtins(tenure))


def tenure_of(document: Document) -> Tenure:
    """Decode a document of `tenure_document`.  Raises InvalidData."""
    with decoding("a lease history entry"):
        tenure = msgspec.convert(dict(document), Tenure)
    if not 0 <= tenure.epoch <= NEWEST_EPOCH:
        raise InvalidData("a lease history entry has an epoch out of range")
    return tenure
