"""The lease's document: the reference's fields, and ours beside them.  Pure.

The reference (docs/internals/replaced-backend.md#lease) knows `holderInstanceId` and `leaseUntil`, ms by its own clock;
it acquires when the document is not there or `leaseUntil` has passed, extends what bears its own name, and deletes on
release.  Ours lie in the map `wad`, with a copy of both: where they differ from the reference's fields, the reference
wrote last, and what `wad` says is over.

- We respect the reference: its `leaseUntil` is compared with the server's clock, and it counts as alive in any case
  until it should have renewed one and a half times, should its own clock be slow; and not for longer than ten minutes
  without a renewal, whatever its document says.
- It respects us: `leaseUntil` is 90 s ahead of the server's clock, as much as it claims itself, so that its clock may
  be wrong by more than a minute.  We rely on our ttl alone, which is far shorter.
- It never takes us for itself: our name in `holderInstanceId` begins with `wad:`, since both make their names from the
  host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.core.lease import NEWEST_EPOCH, Record, Tenure, is_sound
from wad.core.untrusted import time_ms

REFERENCE_LEASE_MS: Final = 90_000
_REFERENCE_RENEWALS: Final = 45.0  # seconds: one and a half of its renewals, every 30 s
_LONGEST_CLAIM: Final = (
    600.0  # seconds without a renewal after which nobody holds it, whatever its clock says
)
_PREFIX: Final = "wad:"

Document = Mapping[str, Any]


class _Ours(msgspec.Struct, frozen=True, kw_only=True):
    """The map `wad`.  `until` and `holderInstanceId` repeat what the reference's fields said when we wrote."""

    record: Record
    holderInstanceId: str  # noqa: N815, as in the reference's field
    until: int


def document_of(record: Record, server_ms: int) -> dict[str, Any]:
    """What to write.  `server_ms`: the server's clock, not behind it."""
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
    """What a document says that was written `age` seconds ago, at `server_ms` by the server's clock.

    `epoch`: the newest that began, by the fence; the reference's documents have none.
    """
    ours = _ours(document)
    if ours is None:
        return _reference(document, age, server_ms, epoch)
    return msgspec.structs.replace(ours.record, epoch=max(ours.record.epoch, epoch))


State = tuple[str, str, int]
"""Whose it is: what a renewal does not change."""


def state_of(document: Document | None) -> State | None:
    """Whose a document says that it is; None for one that is not there."""
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
    return ours if agrees and is_sound(ours.record) else None


def _reference(document: Document, age: float, server_ms: int, epoch: int) -> Record:
    """What the reference's fields say; ours count for no more where the map `wad` cannot be read.

    A document that names a holder and cannot be read otherwise is somebody's for as long as a renewal may take.
    """
    holder, until = document.get("holderInstanceId"), document.get("leaseUntil")
    if holder in (None, "") or until in (None, 0):
        return Record(holder="", nonce="", epoch=epoch, ttl=0)
    name = holder if isinstance(holder, str) else "somebody whose name cannot be read"
    left = ((time_ms(until) or 0) - server_ms) / 1000
    left = max(min(left, _LONGEST_CLAIM - age), _REFERENCE_RENEWALS - age)
    return Record(holder=name, nonce="", epoch=epoch, ttl=max(0.0, age + left))


def tenure_document(tenure: Tenure) -> dict[str, Any]:
    """An entry of the history."""
    return dict(msgspec.to_builtins(tenure))


def tenure_of(document: Document) -> Tenure:
    """The entry that `tenure_document` made.  Raises InvalidData."""
    with decoding("an entry of the lease's history"):
        tenure = msgspec.convert(dict(document), Tenure)
    if not 0 <= tenure.epoch <= NEWEST_EPOCH:
        raise InvalidData("an entry of the lease's history has an impossible epoch")
    return tenure
