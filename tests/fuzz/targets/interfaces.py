"""Requests: operations with any parameters, and bytes on the HTTP port."""

from __future__ import annotations

import asyncio
import json
import os
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from tests.fuzz.target import target
from tests.http.test_rest import ADMIN, TOKENS
from tests.support.fake_daemon import FakeDaemon, http_settings
from tests.support.serving import serve_http
from tests.support.small_world import a_world
from wad.api import dispatch
from wad.api.operation import Access, Operation, operations
from wad.config.loading import examine
from wad.core import wire
from wad.core.errors import WadError
from wad.flow.accounts.importing import Imports
from wad.flow.accounts.moving import Moving

_TIMEOUT: Final = 20.0  # seconds after which an answer counts as missing
_ACCOUNT: Final = "acc-15550000001"


@asynccontextmanager
async def _a_daemon(directory: Path) -> AsyncIterator[FakeDaemon]:
    """A real store and the simulator behind the interfaces, one account that is connected."""
    async with a_world(directory) as world, world.leading():
        await world.connected()
        daemon = FakeDaemon()
        for name in (
            "store",
            "accounts",
            "outbound",
            "backfills",
            "media",
            "leader",
            "bus",
            "clock",
        ):
            setattr(daemon, name, getattr(world, name))
        daemon.moving = Moving(world.accounts, os.urandom)
        daemon.imports = Imports(
            world.accounts, world.account_dirs, world.clock, lambda: os.urandom(8).hex(), os.urandom
        )
        loaded, _ = examine(None, {}, default_file=directory / "none", hostname="h")
        assert loaded is not None
        daemon.loaded.origins = loaded.origins
        daemon.loaded.config.http = http_settings(
            tokens=TOKENS, rate_send=0, rate_accounts=0, rate_qr=0, max_accounts=100_000
        )
        yield daemon


# --- operations -----------------------------------------------------------------------------------

_ENDS: Final = frozenset(
    {
        *(
            "restart",
            "lease.release",
            "lease.take",
            "store.copy",
            "accounts.remove",
            "accounts.logout",
        ),
        *("accounts.stop", "accounts.restart", "sessions.export"),
    }
)
"""Operations that would disturb the others; they are called for an account that does not exist."""
_TEXTS: Final = st.sampled_from(
    [
        "",
        "shop",
        _ACCOUNT,
        "+15550000002",
        "15550000002@s.whatsapp.net",
        "1@g.us",
        "9@lid",
        "\0",
        "../x",
        "queued",
    ]
) | st.text(st.characters(), max_size=12)
_SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1])
    | st.floats()
    | st.binary(max_size=12)
    | _TEXTS
)
_ANY: Final = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=2),
    max_leaves=4,
)


def _fitting(kind: Any, name: str) -> st.SearchStrategy[Any]:
    """Values that are mostly valid for the declaration."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _fitting(arguments[0], name)
    if name == "account":
        return st.just(_ACCOUNT) | _TEXTS
    if name == "follow":
        return st.just(value=False)
    if name in ("wait", "timeout"):
        return st.sampled_from([0, 0.0, 0.01, -1.0, float("nan")])
    if origin in (tuple, list):
        return st.lists(_fitting(arguments[0], ""), max_size=4)
    if kind is int:
        return st.sampled_from([0, 1, 5, 50, 1000, -1, 2**31, 2**63 - 1])
    if kind is float:
        return st.floats()
    if kind is bool:
        return st.booleans()
    if kind is bytes:
        return st.binary(max_size=64)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _documents(kind)
    return _TEXTS


def _documents(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        one.encode_name: _fitting(one.type, one.name) | _ANY for one in msgspec.structs.fields(kind)
    }
    return st.fixed_dictionaries({}, optional=fields)


def _orders() -> st.SearchStrategy[tuple[Operation, Any]]:
    def order(one: Operation) -> st.SearchStrategy[tuple[Operation, Any]]:
        given = _documents(one.request)
        if one.name in _ENDS:
            return st.tuples(
                st.just(one), given.map(lambda params: {**params, "account": "nobody"})
            )
        return st.tuples(st.just(one), given | _ANY)

    known = [
        one
        for one in operations().values()
        if one.name not in ("restart", "lease.release", "lease.take")
    ]
    return st.sampled_from(known).flatmap(order)


@target(weight=4, values=_orders())
def requests(directory: Path) -> Iterator[Callable[[tuple[Operation, Any]], None]]:
    """Any operation with any parameters gives a reply that crosses the socket, or a typed error."""

    async def ask(daemon: FakeDaemon, operation: Operation, params: Any) -> None:
        async with asyncio.timeout(_TIMEOUT):
            if operation.streaming:
                async for item in dispatch.stream(daemon, operation.name, params, Access.ADMIN):
                    wire.encode(wire.StreamItem(1, item))
            else:
                reply = await dispatch.call(daemon, operation.name, params, Access.ADMIN)
                msgspec.json.encode(reply)
                wire.encode(wire.Response(1, None, reply))

    with asyncio.Runner() as runner:
        opened = _a_daemon(directory)
        daemon = runner.run(opened.__aenter__())

        def attempt(order: tuple[Operation, Any]) -> None:
            before = daemon.internal_errors
            with suppress(WadError):
                runner.run(ask(daemon, *order))
            assert daemon.internal_errors == before, f"{order[0].name} failed by a fault of ours"

        yield attempt
        runner.run(opened.__aexit__(None, None, None))


# --- HTTP -----------------------------------------------------------------------------------------


def _http_seeds() -> Sequence[bytes]:
    token = f"Authorization: Bearer {ADMIN}\r\n".encode()
    body = json.dumps({"accountId": _ACCOUNT, "to": "+15550000002", "text": "hi"}).encode()
    length = b"Content-Length: %d\r\n" % len(body)
    return [
        *(
            b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (path, token)
            for path in (
                *(
                    b"/health",
                    b"/healthz",
                    b"/ready",
                    b"/readyz",
                    b"/diag",
                    b"/metrics",
                    b"/openapi.json",
                ),
                *(b"/api/whatsapp/accounts", b"/api/whatsapp/qr/acc-15550000001"),
                b"/api/whatsapp/threads/acc-15550000001?limit=5&cursor=1700000000000:x:1",
            )
        ),
        b"POST /api/whatsapp/send-message HTTP/1.1\r\nHost: a\r\n"
        + token
        + length
        + b"\r\n"
        + body,
        b"POST /api/operations/status HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        + token
        + b"\r\n2\r\n{}\r\n0\r\n\r\n",
        b"OPTIONS /health HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example.net\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nAuthorization: Basic eDp3YWRfYWRtaW4=\r\nX-Request-Id: 1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ]


@target(weight=6, seeds=_http_seeds)
def http(directory: Path) -> Iterator[Callable[[bytes], None]]:
    """Any bytes on the port are answered or disconnected, and never cause an internal error."""

    async def ask(port: int, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = b""
        with suppress(ConnectionError):
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(_TIMEOUT):
                answer = await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        return answer

    with asyncio.Runner() as runner:
        opened = _a_daemon(directory)
        daemon = runner.run(opened.__aenter__())
        served = serve_http(daemon, "127.0.0.1", 0)
        port = runner.run(served.__aenter__())

        def attempt(data: bytes) -> None:
            before = daemon.internal_errors
            answer = runner.run(ask(port, data))
            assert daemon.internal_errors == before, "a request failed by a fault of ours"
            assert not answer.startswith(b"HTTP/1.1 500")

        yield attempt
        runner.run(served.__aexit__(None, None, None))
        runner.run(opened.__aexit__(None, None, None))
