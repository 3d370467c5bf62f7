"""Probes and dashboards: anybody may ask, as often as they like; no I/O, no limit.

Numbers are masked in all of them.  Only `/metrics` names accounts by their whole ids, and only to who has a token.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Final

from wad.api import health
from wad.api.dashboard import dashboard, detailed
from wad.api.operation import Access
from wad.api.rest.auth import Gate, check_access
from wad.api.rest.exchange import Answer, Request, document

if TYPE_CHECKING:
    from wad.api.context import Context

Probe = Callable[["Context", Request], Answer | Coroutine[None, None, Answer]]


def _health(context: Context, request: Request) -> Answer:
    content = health.health(context, request.ident)
    return document(200 if content["ok"] else 503, content)


def _healthz(context: Context, request: Request) -> Answer:
    return document(200, health.healthz(context))


def _ready(context: Context, request: Request) -> Answer:
    return document(200, health.ready(context))


def _readyz(context: Context, request: Request) -> Answer:
    content = health.readyz(context)
    return document(200 if content["status"] == "ready" else 503, content)


def _diag(context: Context, request: Request) -> Answer:
    return document(200, health.diag(context))


def _dashboard(context: Context, request: Request) -> Answer:
    return document(200, dashboard(context, request.base_url))


def _detailed(context: Context, request: Request) -> Answer:
    return document(200, detailed(context))


def metrics_for(gate: Gate) -> Probe:
    """`/metrics`: of all accounts together for anybody, of each for who may look at them.

    Two masked ids may be the same, which a scraper does not take: hence all or nothing.
    """

    async def answer(context: Context, request: Request) -> Answer:
        each = bool(request.header(b"authorization"))
        if each:
            check_access(await gate.caller(request), Access.READ)
        # The library is loaded when the first scraper comes, on a thread: most daemons have none, and it takes 5 MB.
        await asyncio.to_thread(importlib.import_module, "wad.api.metrics")
        from wad.api import metrics

        body = await asyncio.to_thread(metrics.exposition, metrics.read(context), each=each)
        return Answer(200, body, metrics.CONTENT_TYPE)

    return answer


PROBES: Final[Mapping[str, Probe]] = {
    "/health": _health,
    "/health/detailed": _detailed,
    "/healthz": _healthz,
    "/ready": _ready,
    "/readyz": _readyz,
    "/diag": _diag,
    "/api/status/dashboard": _dashboard,
}
"""Those that ask nobody who they are.  All probes are for GET and HEAD."""
