"""The HTTP server with a small application in this process, asked in raw bytes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httptools
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.waiting import TIMEOUT
from wad.http.server.limits import HttpLimits
from wad.http.server.listening import bind
from wad.http.server.slots import Slots
from wad.http.server.uvicorn_server import serve


@dataclass
class App:
    """What the application saw and what it waits for."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """A client disconnected while its request was answered."""
    requests: list[str] = field(default_factory=list)
    made: int = 0
    """Pieces of the endless answer."""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    async def healthz(self, request: Request) -> Response:
        """A probe."""
        self.requests.append(request.url.path)
        return JSONResponse({"ok": True})

    async def echo(self, request: Request) -> Response:
        """The size and the hash of the body."""
        body = await request.body()
        self.headers = list(request.headers.raw)
        return JSONResponse({"size": len(body), "sha256": hashlib.sha256(body).hexdigest()})

    async def refuse(self, request: Request) -> Response:
        """An answer before the body is read."""
        return JSONResponse({"success": False, "error": "unauthorized"}, 401)

    async def large(self, request: Request) -> Response:
        """As many bytes as asked for, at once."""
        size = request.query_params.get("size", "")
        return PlainTextResponse(b"x" * min(1 << 24, int(size if size.isdecimal() else 9)))

    async def endless(self, request: Request) -> Response:
        """Pieces of 16 kB, as long as the client reads them."""

        async def pieces() -> AsyncIterator[bytes]:
            while True:
                self.made += 1
                yield b"y" * (16 << 10)

        return StreamingResponse(pieces())

    async def wait(self, request: Request) -> Response:
        """Answers when the test sets the event."""
        self.waiting.set()
        await self.go_on.wait()
        return PlainTextResponse("went on")

    async def upload(self, request: Request) -> Response:
        """Reads one piece of the body, and the others when the test sets the event."""
        size = 0
        async for piece in request.stream():
            size += len(piece)
            self.waiting.set()
            await self.go_on.wait()
        return JSONResponse({"size": size})

    async def patient(self, request: Request) -> Response:
        """Waits for the client to go."""
        self.waiting.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        return PlainTextResponse("")

    async def fail(self, request: Request) -> Response:
        """A fault."""
        raise ZeroDivisionError

    @property
    def starlette(self) -> Starlette:
        """All routes."""
        each = ["GET", "POST"]
        paths = (
            "healthz",
            "echo",
            "refuse",
            "large",
            "endless",
            "wait",
            "upload",
            "patient",
            "fail",
        )
        return Starlette(
            routes=[Route(f"/{path}", getattr(self, path), methods=each) for path in paths]
        )


@dataclass
class Served:
    """A server that runs."""

    port: int
    slots: Slots
    app: App
    stopping: asyncio.Event
    ended: asyncio.Task[None]

    async def connect(self, receive: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; `receive`: bytes that its kernel takes before the client reads."""
        sock = socket.socket()
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=sock, limit=1 << 16)

    async def exchange(self, *pieces: bytes, eof: bool = False) -> bytes:
        """All bytes that are received until the server closes; the pieces are sent one by one."""
        reader, writer = await self.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if eof:
                writer.write_eof()
            async with asyncio.timeout(TIMEOUT):
                return await reader.read()
        except ConnectionError:
            return await reader.read()
        finally:
            writer.close()

    async def ask(self, *pieces: bytes, eof: bool = False) -> list[Answer]:
        """The answers that are received until the server closes."""
        return answers(await self.exchange(*pieces, eof=eof))

    async def probe(self) -> int:
        """The status of /healthz for another client; 0: no answer."""
        found = await self.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return found[0].status if found else 0


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


class _Parser:
    def __init__(self) -> None:
        self.found: list[Answer] = []
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.found.append(Answer(0, {}, b""))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found[-1].headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.found[-1].status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.found[-1].body += body


def answers(data: bytes) -> list[Answer]:
    """Responses in a row, those with 1xx among them."""
    parser = _Parser()
    parser.parser.set_dangerous_leniencies(lenient_keep_alive=True, lenient_data_after_close=True)
    parser.parser.feed_data(data)
    return parser.found


@asynccontextmanager
async def a_server(
    limits: HttpLimits | None = None, sockets: Sequence[socket.socket] = ()
) -> AsyncIterator[Served]:
    """The server on a free port of this machine, or on these sockets."""
    app, stopping = App(), asyncio.Event()
    listeners = sockets or [await bind("127.0.0.1", 0)]
    port = listeners[0].getsockname()[1]
    started: asyncio.Future[Slots] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            app.starlette,
            listeners,
            stopping=stopping,
            limits=limits or HttpLimits(finish=0.5),
            started=started.set_result,
        )
    )
    await asyncio.wait((task, started), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield Served(port, started.result(), app, stopping, task)
    finally:
        app.go_on.set()
        stopping.set()
        await task
