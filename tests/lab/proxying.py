"""Trials: nginx of the distribution in front of wad, with docs/examples/nginx.conf unchanged."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.probing import Probes
from tests.lab.trial import trial
from tests.lab.world import World

_EXAMPLE: Final = Path(__file__).parent.parent.parent / "docs/examples/nginx.conf"
_NAME: Final = "wad.example.org"
_CERTIFICATES: Final = f"/etc/letsencrypt/live/{_NAME}"
_MAKE_CERTIFICATE: Final = (
    f"mkdir -p {_CERTIFICATES} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    f" -subj /CN={_NAME} -addext subjectAltName=DNS:{_NAME}"
    f" -keyout {_CERTIFICATES}/privkey.pem -out {_CERTIFICATES}/fullchain.pem"
)
_LONG: Final = 30_000  # characters of a message
_MANY: Final = 60  # such messages: an answer of 1.8 MB


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body, decoded; its content type must be JSON."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)


class Front:
    """A client of nginx over TLS."""

    def __init__(self, trusted: str) -> None:
        self.tls = ssl.create_default_context(cadata=trusted), _NAME

    async def send(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and send a request."""
        context, name = self.tls
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", 443, ssl=context, server_hostname=name
        )
        writer.write(request)
        return reader, writer

    async def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        token: str = "",
        content: object = None,
        chunked: bool = False,
        headers: str = "",
    ) -> Answer:
        """Send one request on a new connection and read the answer."""
        body = b"" if content is None else json.dumps(content).encode()
        if chunked:
            pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
            headers += "Transfer-Encoding: chunked\r\n"
        elif body:
            headers += f"Content-Length: {len(body)}\r\n"
        if token:
            headers += f"Authorization: Bearer {token}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: {_NAME}\r\nConnection: close\r\n{headers}\r\n"
        async with asyncio.timeout(60):
            reader, writer = await self.send(head.encode() + body)
            data = await reader.read()
            writer.close()
        top, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = top.decode("latin-1").split("\r\n")
        named = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if named.get("transfer-encoding") == "chunked":
            rest = _joined(rest)
        return Answer(int(status.split()[1]), named, rest)


def _joined(rest: bytes) -> bytes:
    """A chunked body, joined."""
    parts: list[bytes] = []
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not (length := int(size, 16)):
            return b"".join(parts)
        parts.append(rest[:length])
        rest = rest[length + 2 :]


async def _begin(world: World, settings: str = "") -> tuple[Front, str]:
    """Start nginx in front of wad; returns a client and an administrator's token."""
    container = world.container
    made = json.loads(await container.run("wadctl token create ops --role admin --json"))
    token, line = made["token"], made["line"]
    await world.write("/etc/wad/wad.toml", f'[http]\ntokens = "{line}"\n{settings}')
    await container.run("systemctl restart wad")
    await world.connected()
    await world.write("/etc/nginx/sites-available/wad", _EXAMPLE.read_text())
    await container.run("ln -s /etc/nginx/sites-available/wad /etc/nginx/sites-enabled/wad")
    await container.run(f"{_MAKE_CERTIFICATE} 2>/dev/null")
    await container.run("nginx -t && systemctl start nginx")
    return Front(container.path(f"{_CERTIFICATES}/fullchain.pem").read_text()), token


@trial(spoils=True)
async def nginx_in_front(world: World) -> None:
    """Probes, tokens, large answers, bodies, clients that disconnect, forged client addresses, and wad being down."""
    front, token = await _begin(world, 'headerless_networks = "10.0.0.0/8"\n')
    await _probes(front)
    await _operations(world, front, token)
    await _large_answers(world, front, token)
    await _claimed_addresses(world, front, token)
    await _wad_down(world, front)
    await world.nothing_lost()


async def _probes(front: Front) -> None:
    health = await front.ask("/health")
    assert (health.status, health.document["ok"]) == (200, True), health
    head = await front.ask("/health", "HEAD")
    assert (head.status, head.body) == (200, b""), head
    board = await front.ask("/api/status/dashboard")
    assert board.document["service"]["backendBaseUrl"] == f"https://{_NAME}", board
    inside = await front.ask("/metrics")
    assert (inside.status, inside.document["error"]) == (404, "not_found"), inside


async def _operations(world: World, front: Front, token: str) -> None:
    shown = await front.ask("/api/whatsapp/accounts", token=token)
    (account,) = shown.document["accounts"]
    assert (shown.status, account["status"]) == (200, "connected"), shown
    assert (await front.ask("/api/whatsapp/accounts")).status == 401
    status = await front.ask("/api/operations/status", "POST", token=token, content={})
    assert status.status == 200, status
    sent = {"accountId": account["id"], "to": str(world.peer.pn), "message": "through nginx " * 500}
    for chunked in (False, True):
        wanted = sent | {"clientMessageId": f"chunked-{chunked}"}
        done = await front.ask(
            "/api/whatsapp/send-message", "POST", token=token, content=wanted, chunked=chunked
        )
        assert (done.status, done.document["success"]) == (200, True), done
        await world.peer.received(world.shop, text=sent["message"])
    for size in (110_000, 300_000):  # wad's limit, and nginx's
        long = await front.ask(
            "/api/whatsapp/send-message",
            "POST",
            token=token,
            content=sent | {"message": "x" * size},
        )
        assert (long.status, long.document["error"]) == (413, "too_long"), long


async def _large_answers(world: World, front: Front, token: str) -> None:
    for number in range(_MANY):
        await world.peer.send_text(world.shop, f"{number} " + "long " * (_LONG // 5))
    await world.nothing_lost()
    account = (await world.wad.account("shop"))["id"]
    path = f"/api/whatsapp/messages/{account}/{account}__{world.peer.pn}?limit={_MANY}"
    first = await front.ask(path, token=token)
    assert (first.status, first.document["count"]) == (200, _MANY), first.status
    direct = await world.container.run(
        f"curl --silent --fail --header 'Authorization: Bearer {token}' 'http://127.0.0.1:8080{path}'"
    )
    assert first.document == json.loads(direct)
    pid = await world.container.property("wad-http", "MainPID")
    asked = f"GET {path} HTTP/1.1\r\nHost: {_NAME}\r\nAuthorization: Bearer {token}\r\n\r\n"
    half = asked.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 5000\r\n\r\n{")
    # Clients that disconnect, within an answer and within a body.
    for request in (asked, half) * 20:
        reader, writer = await front.send(request.encode())
        if request is asked:
            assert await reader.read(1000)
        writer.transport.abort()
    answers = await asyncio.gather(*(front.ask(path, token=token) for _ in range(5)))
    assert [answer.document for answer in answers] == [first.document] * 5
    assert await world.container.property("wad-http", "MainPID") == pid
    said = await world.log("--unit=wad-http")
    assert "Traceback" not in said, said


async def _claimed_addresses(world: World, front: Front, token: str) -> None:
    """Headers cannot change a client's address: it is the address of the connection (docs/http.md)."""
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        value = "for=10.0.0.1" if name == "Forwarded" else "10.0.0.1"
        refused = await front.ask("/api/whatsapp/accounts", headers=f"{name}: {value}\r\n")
        assert (refused.status, refused.document["error"]) == (401, "missing_auth_token"), refused
    for number in range(14):  # ten are free
        claimed = f"X-Forwarded-For: 192.0.2.{number}\r\n"
        wrong = await front.ask("/api/whatsapp/accounts", token="wad_guess", headers=claimed)
        assert wrong.status in (401, 429), wrong
    known = await front.ask("/api/whatsapp/accounts", token=token)
    assert known.status == 200, known
    said = await world.log()
    assert "wrong tokens were delayed" in said, said
    assert "of them from 127.0.0.1" in said, said


async def _wad_down(world: World, front: Front) -> None:
    """nginx answers in JSON while wad is down."""
    await world.container.run("systemctl stop wad-http.socket wad-http.service 2>/dev/null")
    away = await front.ask("/health")
    assert (away.status, away.document["error"]) == (502, "unavailable"), away
    assert away.headers["retry-after"] == "5", away
    await world.container.run("systemctl start wad-http.socket")
    assert (await front.ask("/health")).status == 200


@trial(spoils=True)
async def nginx_under_restarts(world: World) -> None:
    """Restarts of wad.service and of wad-http.service under 20 probes a second through nginx: none fails."""
    front, _ = await _begin(world)
    async with Probes("127.0.0.1", 443, per_second=20, tls=front.tls) as probes:
        await probes.more(20)
        for unit in ("wad.service", "wad-http.service") * 3:
            await world.container.run(f"systemctl restart {unit}")
            await world.connected()
            await probes.more(20)
    world.measured("nginx_probe_errors", len(probes.errors), "errors", 0)
    assert not probes.errors, probes.errors[:5]
    await world.nothing_lost()
