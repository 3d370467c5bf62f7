"""Probes and dashboards: without authentication, rate limit or I/O.

They have no parameters and do not depend on the caller, so that concurrent requests share one reply: many probes cost
the daemon no more than one.  The HTTP process adds the fields that depend on the request.
Numbers are masked in all of them.  Only `metrics.accounts`, which needs a token, has full account ids.
"""

from __future__ import annotations

from typing import Any

import msgspec

from wad.api.context import Context
from wad.api.legacy import documents
from wad.api.operation import Access, Http, Params, operation

Document = dict[str, Any]


class Probe(Params, frozen=True):
    """A probe, without parameters: the reply is the same for every caller."""


class Exposition(msgspec.Struct, frozen=True):
    """Metrics in Prometheus' text format."""

    content_type: str
    text: str


_SHARED = Http(shared=True)


@operation("probe.health", reply=documents.HealthDocument, access=Access.ANYBODY, http=_SHARED)
async def health(context: Context, request: Probe) -> Document:
    """Show the health of the daemon, with counts and problems."""
    from wad.api.views import health

    return health.health(context)


@operation("probe.healthz", reply=documents.Alive, access=Access.ANYBODY, http=_SHARED)
async def healthz(context: Context, request: Probe) -> Document:
    """Show that the process responds."""
    from wad.api.views import health

    return health.healthz(context)


@operation("probe.ready", reply=documents.Ready, access=Access.ANYBODY, http=_SHARED)
async def ready(context: Context, request: Probe) -> Document:
    """Show whether this instance is active."""
    from wad.api.views import health

    return health.ready(context)


@operation("probe.readyz", reply=documents.ReadyForBalancer, access=Access.ANYBODY, http=_SHARED)
async def readyz(context: Context, request: Probe) -> Document:
    """Show whether this instance can handle requests."""
    from wad.api.views import health

    return health.readyz(context)


@operation("probe.diag", reply=documents.Diagnosis, access=Access.ANYBODY, http=_SHARED)
async def diag(context: Context, request: Probe) -> Document:
    """Show the lease and the accounts with the latest events."""
    from wad.api.views import health

    return health.diag(context)


@operation("probe.dashboard", reply=documents.Dashboard, access=Access.ANYBODY, http=_SHARED)
async def dashboard(context: Context, request: Probe) -> Document:
    """Show an overview of all accounts."""
    from wad.api.views.dashboard import dashboard

    return dashboard(context)


@operation("probe.detailed", reply=documents.DetailedHealth, access=Access.ANYBODY, http=_SHARED)
async def detailed(context: Context, request: Probe) -> Document:
    """Show the connection of each account."""
    from wad.api.views.dashboard import detailed

    return detailed(context)


@operation("metrics.total", access=Access.ANYBODY, http=_SHARED)
async def metrics_total(context: Context, request: Probe) -> Exposition:
    """Return the metrics of all accounts together.

    Metrics per account are separate: they need full ids, since two masked ids may be equal.
    """
    return await _exposition(context, each=False)


@operation("metrics.accounts", access=Access.READ, http=Http())
async def metrics_accounts(context: Context, request: Probe) -> Exposition:
    """Return the metrics of each account."""
    return await _exposition(context, each=True)


async def _exposition(context: Context, *, each: bool) -> Exposition:
    import asyncio
    import importlib

    # The library is loaded with the first request, on a thread: it takes 5 MB, and most daemons are not scraped.
    await asyncio.to_thread(importlib.import_module, "wad.api.views.metrics")
    from wad.api.views import metrics

    body = await asyncio.to_thread(metrics.exposition, metrics.read(context), each=each)
    return Exposition(metrics.CONTENT_TYPE.decode(), body.decode())
