"""The answers of the HTTP process, through its own server on a free port, to requests in raw bytes."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.fake_daemon import FakeDaemon
from tests.support.serving import serve_http


@dataclass
class Answer:
    """A parsed response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def exchange(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    """All bytes that are received until the server closes."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


async def ask(port: int, path: str, method: str = "GET", headers: str = "") -> Answer:
    """One request on a connection of its own."""
    request = f"{method} {path} HTTP/1.1\r\nHost: wad\r\nConnection: close\r\n{headers}\r\n"
    head, _, body = (await exchange(port, request.encode("latin-1"))).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return Answer(int(status.split()[1]), {name.lower(): value for name, value in pairs}, body)


@pytest.fixture
def daemon() -> FakeDaemon:
    """An active daemon."""
    return FakeDaemon()


@pytest.fixture
async def port(daemon: FakeDaemon) -> AsyncIterator[int]:
    """The port where it answers."""
    async with serve_http(daemon, "127.0.0.1", 0) as bound:
        yield bound


@pytest.mark.parametrize(
    "path", ["/health", "/healthz", "/ready", "/readyz", "/diag", "/api/status/dashboard"]
)
async def test_a_probe_is_answered(port: int, path: str) -> None:
    """200 and a JSON document that must not be cached."""
    answer = await ask(port, path)
    assert answer.status == 200
    assert "2023-11-14T22:13:20.000Z" in answer.body.decode()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_query_is_ignored(port: int) -> None:
    """Some probes add one against caches."""
    assert (await ask(port, "/healthz?t=1")).status == 200


async def test_unwritable_sessions_are_503(daemon: FakeDaemon, port: int) -> None:
    """The only condition that makes a probe fail, with the whole document."""
    daemon.sessions_writable = False
    answer = await ask(port, "/health")
    assert (answer.status, answer.document["sessions_dir_writable"]) == (503, False)


async def test_passive_is_200(daemon: FakeDaemon, port: int) -> None:
    """A standby is healthy."""
    daemon.leader.valid = None
    assert (await ask(port, "/health")).status == 200


async def test_not_ready_is_200(daemon: FakeDaemon, port: int) -> None:
    """As in the reference, the document shows it, not the status."""
    daemon.leader.valid = None
    answer = await ask(port, "/ready")
    assert (answer.status, answer.document["ready"]) == (200, False)


async def test_passive_is_not_ready_for_a_balancer(daemon: FakeDaemon, port: int) -> None:
    """The only probe whose status depends on the lease."""
    daemon.leader.valid = None
    assert (await ask(port, "/readyz")).status == 503


async def test_the_dashboard_names_where_it_was_asked(port: int) -> None:
    """Scheme and host of the request; an odd host is not repeated."""
    answer = await ask(port, "/api/status/dashboard")
    assert answer.document["service"]["backendBaseUrl"] == "http://wad"
    proxied = await ask(port, "/api/status/dashboard", headers="X-Forwarded-Proto: https\r\n")
    assert proxied.document["service"]["backendBaseUrl"] == "https://wad"
    odd = (
        await exchange(port, b"GET /api/status/dashboard HTTP/1.0\r\nHost: a<b\r\n\r\n")
    ).partition(b"\r\n\r\n")[2]
    assert json.loads(odd)["service"]["backendBaseUrl"] is None


async def test_metrics_are_text(port: int) -> None:
    """In the format and with the type that a scraper requests."""
    answer = await ask(port, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "wad_lease_active 1.0\n" in answer.body.decode()


async def test_a_request_id_is_returned(port: int) -> None:
    """So that a caller finds its request in a log."""
    answer = await ask(port, "/health", headers="X-Request-Id: abc-1\r\n")
    assert answer.document["requestId"] == "abc-1"


async def test_a_request_id_is_cleaned(port: int) -> None:
    """It is bounded, and has no characters that a log or a page would interpret."""
    answer = await ask(port, "/health", headers=f"X-Request-Id: <a\xe9 {'x' * 500}\r\n")
    assert answer.document["requestId"] == "a" + "x" * 127


async def test_head_has_no_body(port: int) -> None:
    """The same head, and nothing after it."""
    got, head = await ask(port, "/healthz"), await ask(port, "/healthz", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_head_is_answered_at_once(port: int) -> None:
    """Also on a connection that stays open, not only when it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(b"HEAD /healthz HTTP/1.1\r\nHost: wad\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_other_paths_are_404(port: int) -> None:
    """In the form of the reference."""
    answer = await ask(port, "/api/nothing")
    assert answer.status == 404
    assert answer.document == {
        "success": False,
        "error": "not_found",
        "message": "no such path",
    }
    assert answer.headers["cache-control"] == "no-store"


async def test_other_methods_are_405(port: int) -> None:
    """With the allowed methods."""
    answer = await ask(port, "/health", "POST", "Content-Length: 0\r\n")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.document["error"] == "method_not_allowed"


async def test_a_body_is_not_read(port: int) -> None:
    """A request with a body is answered as well."""
    answer = await ask(port, "/healthz", headers="Content-Length: 5\r\n\r\nhello")
    assert answer.status == 200


async def test_the_software_is_not_named(port: int) -> None:
    """No Server header."""
    assert "server" not in (await ask(port, "/health")).headers


async def test_one_connection_many_requests(port: int) -> None:
    """Requests that arrive together are answered in order."""
    one = b"GET /healthz HTTP/1.1\r\nHost: wad\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: wad\r\nConnection: close\r\n\r\n"
    data = await exchange(port, one + one.replace(b"GET", b"HEAD") + one + last)
    assert [part[:3] for part in data.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"200", b"404"]


async def test_an_internal_error_is_500(
    daemon: FakeDaemon, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted; the answer has a reference and no internals."""
    daemon.accounts = None
    with caplog.at_level(logging.ERROR):
        answer = await ask(port, "/health")
    assert (answer.status, answer.document["error"]) == (500, "internal")
    assert b"NoneType" not in answer.body
    assert "AttributeError" in caplog.text
    assert daemon.internal_errors == 1


async def test_garbage_is_400(port: int) -> None:
    """Anything but HTTP is refused, and the server continues."""
    refusal = await exchange(port, b"\x00\x01\x02\r\n\r\n")
    assert refusal.startswith(b"HTTP/1.1 400")
    assert json.loads(refusal.partition(b"\r\n\r\n")[2])["error"] == "bad_input"
    assert (await ask(port, "/healthz")).status == 200


async def test_no_access_log(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Probes arrive every second; a line for each would flood the log."""
    with caplog.at_level(logging.DEBUG):
        await ask(port, "/health")
    assert "/health" not in caplog.text


async def test_a_socket_that_is_bound_already(daemon: FakeDaemon) -> None:
    """A socket handed over by systemd is used as it is."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        async with serve_http(daemon, "unused", 0, sock=sock) as bound:
            assert bound == sock.getsockname()[1]
            assert (await ask(bound, "/healthz")).status == 200


async def test_the_end_closes_idle_connections(daemon: FakeDaemon) -> None:
    """A probe that keeps its connection does not delay the end."""
    async with serve_http(daemon, "127.0.0.1", 0) as bound:
        reader, writer = await asyncio.open_connection("127.0.0.1", bound)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: wad\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    await reader.read()
    assert reader.at_eof()
    writer.close()


async def test_the_port_is_free_afterwards(daemon: FakeDaemon) -> None:
    """The next daemon can bind it at once."""
    async with serve_http(daemon, "127.0.0.1", 0) as bound:
        await ask(bound, "/healthz")
    async with serve_http(daemon, "127.0.0.1", bound) as again:
        assert again == bound


async def test_an_error_in_the_block_passes(daemon: FakeDaemon) -> None:
    """The block's own error is raised unchanged."""
    with pytest.raises(ZeroDivisionError):
        async with serve_http(daemon, "127.0.0.1", 0):
            raise ZeroDivisionError
