"""The views of the lease and its holders in replies."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wad.api.views.values import values

Mode = Annotated[str, values("active", "passive")]


class LeaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The lease as this instance sees it.  `valid_for_s`: seconds for which it may act without another renewal.

    Fields of the record are null until it is first read, and when another program wrote it.
    """

    instance: str
    mode: Mode
    reason: str
    valid_for_s: float | None
    holder: str | None
    epoch: int | None
    acquired_ms: int | None
    renewed_ms: int | None
    previous_holder: str | None
    acquire_reason: str | None
    ttl_s: float
    renew_every_s: float
    margin_s: float
    location: str


class HolderView(msgspec.Struct, frozen=True, kw_only=True):
    """One term of a holder.  `ended_ms` null: it still holds the lease."""

    epoch: int
    holder: str
    began_ms: int
    reason: str
    ended_ms: int | None
    end_reason: str
