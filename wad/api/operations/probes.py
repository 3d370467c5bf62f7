"""Probes and dashboards: anybody may ask, as often as they like; no I/O.

They have no parameters and know no caller, so that one answer does for all who wait for it: a crowd of probes costs the
daemon no more than one of them.  What an answer repeats of its own request is put in by the HTTP process.
Numbers are masked in all of them.  Only `metrics.accounts` names accounts by their whole ids, to who may look.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wad.api.context import Context
from wad.api.operation import Access, Http, Params, operation

Document = dict[str, Any]


class Probe(Params, frozen=True):
    """Nothing: it is the same question for everybody."""


class Exposition(msgspec.Struct, frozen=True):
    """Metrics in Prometheus' text format."""

    content_type: str
    text: str


_SHARED = Http(shared=True)


@operation("probe.health", access=Access.ANYBODY, http=_SHARED)
async def health(context: Context, request: Probe) -> Document:
    """The whole daemon in numbers."""
    from wad.api.views import health

    return health.health(context)


@operation("probe.healthz", access=Access.ANYBODY, http=_SHARED)
async def healthz(context: Context, request: Probe) -> Document:
    """The process answers."""
    from wad.api.views import health

    return health.healthz(context)


@operation("probe.ready", access=Access.ANYBODY, http=_SHARED)
async def ready(context: Context, request: Probe) -> Document:
    """Whether this instance acts."""
    from wad.api.views import health

    return health.ready(context)


@operation("probe.readyz", access=Access.ANYBODY, http=_SHARED)
async def readyz(context: Context, request: Probe) -> Document:
    """Whether to send requests here."""
    from wad.api.views import health

    return health.readyz(context)


@operation("probe.diag", access=Access.ANYBODY, http=_SHARED)
async def diag(context: Context, request: Probe) -> Document:
    """The lease, and who heard something last."""
    from wad.api.views import health

    return health.diag(context)


@operation("probe.dashboard", access=Access.ANYBODY, http=_SHARED)
async def dashboard(context: Context, request: Probe) -> Document:
    """Every account at a glance."""
    from wad.api.views.dashboard import dashboard

    return dashboard(context)


@operation("probe.detailed", access=Access.ANYBODY, http=_SHARED)
async def detailed(context: Context, request: Probe) -> Document:
    """Every account's connection."""
    from wad.api.views.dashboard import detailed

    return detailed(context)


@operation("metrics.total", access=Access.ANYBODY, http=_SHARED)
async def metrics_total(context: Context, request: Probe) -> Exposition:
    """Metrics of all accounts together.

    Two masked ids may be the same, which a scraper does not take: hence of all together, or of each by its id.
    """
    return await _exposition(context, each=False)


@operation("metrics.accounts", access=Access.READ, http=Http())
async def metrics_accounts(context: Context, request: Probe) -> Exposition:
    """Metrics of each account."""
    return await _exposition(context, each=True)


async def _exposition(context: Context, *, each: bool) -> Exposition:
    import asyncio
    import importlib

    # The library is loaded when the first scraper comes, on a thread: most daemons have none, and it takes 5 MB.
    await asyncio.to_thread(importlib.import_module, "wad.api.views.metrics")
    from wad.api.views import metrics

    body = await asyncio.to_thread(metrics.exposition, metrics.read(context), each=each)
    return Exposition(metrics.CONTENT_TYPE.decode(), body.decode())
