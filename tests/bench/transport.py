"""The cost of wad's bounds on a connection: an empty Starlette handler with them, and on uvicorn alone."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

from tests.bench.daemon import load, running
from tests.bench.measure import Figure, measure

_APP = """
import asyncio, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def empty(request):
    return Response(b"{}", media_type="application/json")

app = Starlette(routes=[Route("/health", empty)])
port = int(sys.argv[1])
"""
BARE = f"""{_APP}
uvicorn.run(app, port=port, http="httptools", loop="asyncio", lifespan="off", access_log=False,
            log_level="error", server_header=False)
"""
BOUNDED = f"""{_APP}
from wad.http.server.listening import bind
from wad.http.server.uvicorn_server import serve

async def main():
    await serve(app, [await bind("127.0.0.1", port)], stopping=asyncio.Event())

asyncio.run(main())
"""


@measure("http_server_rate", "http_server_p99")
async def server() -> Sequence[Figure]:
    """Ten kept connections, in turn."""
    ours, peers = [], []
    async with running(BOUNDED) as bounded, running(BARE) as bare:
        for _ in range(3):
            ours.append(await asyncio.to_thread(load, bounded))
            peers.append(await asyncio.to_thread(load, bare))
    rate, peer_rate = (statistics.median(one.rate for one in these) for these in (ours, peers))
    p99, peer_p99 = (statistics.median(one.p99_ms for one in these) for these in (ours, peers))
    peer = "the same handler on uvicorn alone"
    return [
        Figure(
            "http_server_rate", rate, "1/s", None, peer, peer_rate, at_least=True, least_ratio=0.8
        ),
        Figure("http_server_p99", p99, "ms", 15, peer, peer_p99),
    ]
