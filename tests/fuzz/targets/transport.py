"""TCP input of the HTTP server, before any application handles it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.fuzz.target import target
from tests.support.http_server import Served, a_server
from wad.http.server.limits import HttpLimits

_TIMEOUT: Final = 20.0  # seconds after which an answer counts as missing
_HOST: Final = b"Host: a\r\n"


def _seeds() -> Sequence[bytes]:
    get = b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n"
    post = b"POST /echo HTTP/1.1\r\n" + _HOST
    counted = post + b"Content-Length: 5\r\n\r\nhello"
    chunks = b"5;a=b\r\nhello\r\n1\r\n \r\n0\r\nX: y\r\nHost: b\r\n\r\n"
    return [
        get * 3,
        b"\r\n\r\n" + counted + get,
        counted + post + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + get,
        post + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi" + get,
        post.replace(b"/echo", b"/refuse") + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        b"POST /upload HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
        b"HEAD /large?size=9 HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n",
        b"GET http://a/healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        + _HOST
        + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"\r\n",
    ]


async def _send(served: Served, pieces: Sequence[bytes]) -> bytes:
    reader, writer = await served.connect()
    answer = b""
    with suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.write_eof()
        async with asyncio.timeout(_TIMEOUT):
            answer = await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def _cut(data: bytes) -> list[bytes]:
    """Into pieces, at positions that the data itself determines."""
    chance = random.Random(data)
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(5)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@target(weight=6, seeds=_seeds)
def transport(_: Path) -> Iterator[Callable[[bytes], None]]:
    """Any bytes, cut anywhere, are answered or disconnected, and two parsers agree where each request ends."""
    with asyncio.Runner() as runner:
        opened = a_server(HttpLimits(half_closed=5))
        served = runner.run(opened.__aenter__())
        served.app.go_on.set()

        def attempt(data: bytes) -> None:
            answer = runner.run(_send(served, _cut(data)))
            assert not answer or answer.startswith(b"HTTP/1.1 ")
            assert b"HTTP/1.1 500" not in answer
            assert served.slots.counters.disagreements == 0

        yield attempt
        runner.run(opened.__aexit__(None, None, None))
