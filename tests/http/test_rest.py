"""Access over HTTP, its limits and its origins; on a fake daemon, through a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.fake_daemon import FakeDaemon, http_settings
from tests.support.http_client import ask, pair
from tests.support.serving import serve_http
from wad.api.callers.limits import CallerLimits
from wad.api.operation import Access, Limit, Operation, Route
from wad.core.connection import State
from wad.core.session_location import SessionLocation
from wad.core.token import Role, named
from wad.http.openapi import rows
from wad.store.port import AccountStatus

VIEWER, EMPLOYEE, ADMIN = "wad_viewer", "wad_employee", "wad_admin"
TOKENS = "\n".join(str(named(role, role, f"wad_{role}")) for role in Role)

ALL = rows()
MUTATING = [row for row in ALL if row[0].access > Access.READ]


def named_row(row: tuple[Operation, Route]) -> str:
    """The id of its test."""
    return f"{row[1].method} {row[1].path}"


def path_of(template: str) -> str:
    """A path with an account and a thread in it."""
    return template.replace("{account}", "acc-1").replace("{thread}", "acc-1__x@g.us")


@asynccontextmanager
async def a_site(**settings: Any) -> AsyncIterator[tuple[FakeDaemon, int]]:
    """A served fake daemon with an account, and its port."""
    daemon = FakeDaemon()
    daemon.loaded.config.http = http_settings(tokens=TOKENS, **settings)
    daemon.accounts.have("acc-1").become(State.CONNECTED, paired=True)
    async with serve_http(daemon, "127.0.0.1", 0) as port:
        yield daemon, port


async def test_an_account_that_is_elsewhere_is_shown() -> None:
    """The apps see it, disconnected, with the reason and without a code."""
    async with a_site() as (daemon, port):
        place = SessionLocation(account="acc-9", instance="host-b", since_ms=1000, name="Shop")
        daemon.accounts.locations.append(place)
        answer = await ask(port, "/api/whatsapp/accounts", token=ADMIN)
    shown = answer.document["accounts"][1]
    assert (shown["id"], shown["name"], shown["status"]) == ("acc-9", "Shop", "disconnected")
    assert shown["qrCode"] is None
    assert shown["lastError"].startswith("its session is on host-b, since ")
    assert shown["passiveModeReason"] is None


# --- access -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ALL, ids=named_row)
async def test_no_access_without_a_token(row: tuple[Operation, Route]) -> None:
    """Every route requires a token, names the header, and answers in JSON."""
    route = row[1]
    async with a_site() as (_, port):
        answer = await ask(port, path_of(route.path), route.method)
    assert answer.status == 401
    assert answer.document["success"] is False
    assert answer.document["error"] == "missing_auth_token"
    assert isinstance(answer.document["message"], str)
    assert "www-authenticate" in answer.headers


async def test_metrics_of_single_accounts_need_a_token() -> None:
    """An id may contain a number: without a token there are only sums."""
    async with a_site(headerless_networks="127.0.0.0/8") as (_, port):
        public = await ask(port, "/metrics")
        stranger = await ask(port, "/metrics", token="wad_nobody")
        viewer = await ask(port, "/metrics", token=VIEWER)
        empty = await ask(port, "/metrics", headers={"Authorization": ""})
    assert (public.status, stranger.status, viewer.status) == (200, 401, 200)
    assert (empty.status, b"acc-1" in empty.body) == (200, False)
    assert b"wad_backlog_rows 0.0" in public.body
    assert b"acc-1" not in public.body
    assert b'wad_account_backlog_rows{account="acc-1"} 0.0' in viewer.body


@pytest.mark.parametrize("row", MUTATING, ids=named_row)
async def test_a_viewer_changes_nothing(row: tuple[Operation, Route]) -> None:
    """A mutating request without the role is 403, and has no effect."""
    route = row[1]
    async with a_site() as (daemon, port):
        answer = await ask(port, path_of(route.path), route.method, token=VIEWER)
    assert (answer.status, answer.document["error"]) == (403, "forbidden")
    assert daemon.accounts.find("acc-1").orders == []
    assert daemon.accounts.removed == []


def test_every_mutating_route_needs_a_role() -> None:
    """And has a rate limit; no other route has one."""
    looking = (
        "contract.accounts_for",
        "contract.threads_for",
        "contract.messages_for",
        "contract.inbox_for",
        "contract.qr",
    )
    for operation, route in ALL:
        assert operation.http is not None
        changes = route.method != "GET" and operation.access > Access.READ
        assert bool(operation.http.limit) is changes, route
        if route.method == "GET" and operation.access > Access.READ:
            assert operation.name.startswith(looking)


async def test_pairing_and_removing_are_for_admins() -> None:
    """As with the proxies of the reference, access to messages does not include accounts."""
    async with a_site() as (_, port):
        for path in ("add-account", "regenerate-qr/acc-1", "disconnect/acc-1"):
            answer = await ask(port, f"/api/whatsapp/{path}", "POST", token=EMPLOYEE)
            assert answer.status == 403


@pytest.mark.parametrize("token", ["wad_nobody", "x" * 10_000, "\xff\xfe", ":"])
async def test_an_unknown_token(token: str) -> None:
    """401, and its own code."""
    async with a_site() as (_, port):
        answer = await ask(port, "/api/whatsapp/accounts", token=token)
    assert (answer.status, answer.document["error"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_without_configured_tokens_access_is_refused() -> None:
    """Deny by default: an empty token is refused as well."""
    daemon = FakeDaemon()
    async with serve_http(daemon, "127.0.0.1", 0) as port:
        for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Basic Og=="}):
            answer = await ask(port, "/api/whatsapp/accounts", headers=headers)
            assert answer.status == 401


async def test_the_reference_s_admin_token_works() -> None:
    """ADMIN_TOKEN has the role admin."""
    async with a_site(admin_token="s3cret") as (daemon, port):
        answer = await ask(port, "/api/whatsapp/accounts/acc-1", "DELETE", token="s3cret")
    assert answer.status == 200
    assert daemon.accounts.removed == ["acc-1"]


async def test_a_browser_is_asked_for_the_token() -> None:
    """The page with the code can be opened in a browser: the token is the password."""
    import base64

    async with a_site() as (_, port):
        path = "/api/whatsapp/qr/acc-1"
        refused = await ask(port, path)
        password = base64.b64encode(f"me:{ADMIN}".encode()).decode()
        answer = await ask(port, path, headers={"Authorization": f"Basic {password}"})
        other = await ask(
            port, "/api/whatsapp/accounts", headers={"Authorization": f"Basic {password}"}
        )
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert other.status == 401


async def test_a_page_repeats_no_markup() -> None:
    """A name is escaped."""
    async with a_site() as (daemon, port):
        daemon.accounts.find("acc-1").card.name = "<script>"
        answer = await ask(port, "/api/whatsapp/qr/acc-1", token=ADMIN)
    assert b"<script>" not in answer.body
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_a_code_needs_the_right_to_pair() -> None:
    """A viewer of the code could pair the account with another phone."""
    async with a_site() as (daemon, port):
        daemon.accounts.find("acc-1").become(State.AWAITING_SCAN, qr="2@code", pair_until=2000.0)
        shown = [
            (await ask(port, "/api/whatsapp/accounts", token=token)).document["accounts"][0]
            for token in (EMPLOYEE, ADMIN)
        ]
    assert shown[0]["qrCode"] is None
    assert shown[1]["qrCode"].startswith("data:image/png;base64,")
    assert [one["status"] for one in shown] == ["qr_ready", "qr_ready"]


# --- rate limits ----------------------------------------------------------------------------------


async def test_too_many_are_429() -> None:
    """With the time to wait in header and body, as the apps read it."""
    async with a_site(rate_qr=2) as (daemon, port):
        daemon.accounts.find("acc-1").become(State.AWAITING_SCAN)
        statuses = [(await pair(port, ADMIN)).status for _ in range(2)]
        answer = await pair(port, ADMIN)
        daemon.clock.now += 30
        again = await pair(port, ADMIN)
    assert statuses == [200, 200]
    assert (answer.status, answer.document["error"]) == (429, "rate_limited")
    assert answer.document["retryAfterSeconds"] == 30
    assert answer.headers["retry-after"] == "30"
    assert again.status == 200


async def test_each_caller_has_its_own_limit() -> None:
    """Another token from the same address is not limited, nor are reads."""
    async with a_site(rate_qr=1, admin_token="other") as (daemon, port):
        daemon.accounts.find("acc-1").become(State.AWAITING_SCAN)
        assert [(await pair(port, ADMIN)).status for _ in range(2)] == [200, 429]
        assert (await pair(port, "other")).status == 200
        for _ in range(50):
            assert (await ask(port, "/api/whatsapp/accounts", token=ADMIN)).status == 200
            assert (await ask(port, "/health")).status == 200


def test_full_buckets_are_forgotten() -> None:
    """Memory does not grow with the number of callers."""
    now = [0.0]
    limits = CallerLimits({Limit.SEND: 60, Limit.ACCOUNTS: 1, Limit.QR: 0}, lambda: now[0])
    for number in range(3000):
        limits.take(f"caller {number}", Limit.SEND)
        now[0] += 1
    assert limits.size <= 1002
    for _ in range(1000):
        limits.take("caller", Limit.QR)


# --- origins --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("https://app.example.org", True),
        ("https://a.pages.example.net", True),
        ("http://localhost:5173", True),
        ("https://example.org", False),
        ("https://app.example.org.evil.net", False),
        ("https://pages.example.net", False),
        ("null", False),
    ],
)
async def test_pages_of_the_web(origin: str, let_in: bool) -> None:
    """Only those whose origin is configured may read an answer, errors included."""
    origins = "https://app.example.org, https://*.pages.example.net http://localhost:5173"
    async with a_site(cors_origins=origins) as (_, port):
        before = await ask(
            port,
            "/api/whatsapp/accounts/acc-1/name",
            "OPTIONS",
            headers={"Origin": origin, "Access-Control-Request-Method": "PATCH"},
        )
        answer = await ask(port, "/api/whatsapp/accounts", headers={"Origin": origin})
    wanted = origin if let_in else None
    assert before.status == 204
    assert before.headers.get("access-control-allow-origin") == wanted
    assert "PATCH" in before.headers["access-control-allow-methods"]
    assert answer.headers.get("access-control-allow-origin") == wanted
    assert "Origin" in before.headers["vary"]


async def test_without_origins_no_page_may_ask() -> None:
    """No answer has the header."""
    async with a_site() as (_, port):
        answer = await ask(port, "/health", headers={"Origin": "https://app.example.org"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origins", ["", "https://app.example.org"])
@pytest.mark.parametrize("origin", [None, "https://app.example.org", "https://evil.example.org"])
@pytest.mark.parametrize("path", ["/healthz", "/api/whatsapp/send-message", "/nowhere"])
async def test_options_are_always_answered(origins: str, origin: str | None, path: str) -> None:
    """As the replaced backend did, also without a preflight; only a configured origin gets access."""
    async with a_site(cors_origins=origins) as (_, port):
        answer = await ask(
            port, path, "OPTIONS", headers={"Origin": origin} if origin is not None else {}
        )
    assert answer.status == 204
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    wanted = origin if origin == origins else None
    assert answer.headers.get("access-control-allow-origin") == wanted


# --- passive, and unknown routes --------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in ALL if row[0].leader_only], ids=named_row)
async def test_a_passive_instance_names_the_holder(row: tuple[Operation, Route]) -> None:
    """503 with the holder and the time to wait (docs/internals/replaced-backend.md#passive-answer)."""
    route = row[1]
    async with a_site() as (daemon, port):
        daemon.leader.valid, daemon.leader.holder = None, "host-b"
        daemon.leader.reason = "host-b holds epoch 8"
        answer = await ask(
            port,
            path_of(route.path),
            route.method,
            token=ADMIN,
            headers={"X-Request-Id": "abc"},
        )
    assert answer.status == 503
    assert answer.headers["retry-after"] == "15"
    assert answer.document == {
        "success": False,
        "error": "instance_passive",
        "message": "Backend in PASSIVE mode: host-b holds epoch 8",
        "mode": "passive",
        "instanceId": "host-a",
        "holderInstanceId": "host-b",
        "retryAfterSeconds": 15,
        "waMode": "passive",
        "requestId": "abc",
        **({"accountId": "acc-1"} if "{account}" in route.path else {}),
    }


async def test_a_passive_instance_shows_what_the_active_one_published() -> None:
    """Accounts and conversations of another machine can be read, without a code."""
    async with a_site() as (daemon, port):
        daemon.leader.valid, daemon.leader.reason = None, "host-b holds epoch 8"
        daemon.store.published.append(
            AccountStatus(
                account="acc-9",
                name="Far",
                state="connected",
                reason="logged in",
                since_ms=5000,
                phone="+15550000009",
            )
        )
        accounts = (await ask(port, "/api/whatsapp/accounts", token=ADMIN)).document
        threads = (await ask(port, "/api/whatsapp/threads/acc-9", token=ADMIN)).document
        unknown = await ask(port, "/api/whatsapp/messages/acc-8/acc-8__1@g.us", token=ADMIN)
    assert (accounts["waMode"], accounts["lockReason"]) == ("passive", "host-b holds epoch 8")
    assert accounts["accounts"] == [
        {
            "id": "acc-9", "name": "Far", "phone": "+15550000009", "status": "connected", "qrCode": None,
            "pairingCode": None, "createdAt": None, "lastUpdate": {"_seconds": 5, "_nanoseconds": 0},
            "lastError": None, "passiveModeReason": "host-b holds epoch 8",
        }
    ]  # fmt: skip
    assert [thread["id"] for thread in threads["threads"]] == ["acc-9__1@g.us"]
    assert threads["threads"][0]["accountName"] == "Far"
    assert unknown.status == 404


async def test_other_methods_get_the_allowed_ones() -> None:
    """405 names every method of the path."""
    async with a_site() as (_, port):
        answer = await ask(port, "/api/whatsapp/auto-reply-settings/acc-1", "PUT", token=ADMIN)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"name": 1}', b"\xff", b"[" * 100_000])
async def test_an_invalid_body(body: bytes) -> None:
    """400 with a text, and never an internal error."""
    import asyncio
    import http.client

    def send(port: int) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Authorization": f"Bearer {ADMIN}"}
        connection.request("PATCH", "/api/whatsapp/accounts/acc-1/name", body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    async with a_site() as (daemon, port):
        status, text = await asyncio.to_thread(send, port)
    assert status == 400
    assert b'"error":"invalid_request"' in text
    assert daemon.internal_errors == 0


_BODIES: tuple[tuple[str, str, Any], ...] = (
    ("PATCH", "/api/whatsapp/accounts/{}/name", {}),
    ("PATCH", "/api/whatsapp/accounts/{}/name", []),
    ("POST", "/api/whatsapp/auto-reply-settings/{}", {"enabled": "maybe"}),
    ("POST", "/api/whatsapp/send-message", {"accountId": "{}"}),
    ("POST", "/api/whatsapp/send-message", {"accountId": "{}", "message": 1, "to": []}),
    ("POST", "/whatsappProxySend", {"accountId": "{}", "text": None}),
)


@pytest.mark.parametrize(("method", "path", "body"), _BODIES)
@pytest.mark.parametrize(
    ("account", "token", "status", "code"),
    [
        ("acc-1", ADMIN, 400, "invalid_request"),
        ("nobody", ADMIN, 404, "account_not_found"),
        ("nobody", VIEWER, 403, "forbidden"),
        ("nobody", "", 401, "missing_auth_token"),
        ("no body", "", 401, "missing_auth_token"),
    ],
)
async def test_an_unknown_account_is_reported_before_an_invalid_body(
    method: str, path: str, body: Any, account: str, token: str, status: int, code: str
) -> None:
    """Access is checked first, then the account, then the rest, as in the replaced backend."""
    if isinstance(body, dict) and body.get("accountId"):
        body = body | {"accountId": account}
    path = path.format(account.replace(" ", "%20"))
    async with a_site() as (_, port):
        answer = await ask(port, path, method, token=token, content=body)
    assert (answer.status, answer.document["error"]) == (status, code)


async def test_a_body_that_is_too_large() -> None:
    """413 before all of it is read."""
    async with a_site() as (_, port):
        answer = await ask(
            port,
            "/api/whatsapp/accounts/acc-1/name",
            "PATCH",
            token=ADMIN,
            content={"name": "x" * 200_000},
        )
    assert (answer.status, answer.document["error"]) == (413, "too_long")


async def test_paths_are_matched_whole() -> None:
    """No route matches a longer path, nor one with an additional slash."""
    async with a_site() as (_, port):
        for more in ("/more", "/", "%0A", "%0A%0A", "%00"):
            for path in ("/api/whatsapp/accounts/acc-1/health", "/metrics"):
                assert (await ask(port, path + more, token=ADMIN)).status == 404, path + more


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 2**64},
        {"limit": -(2**63) - 1},
        {"x": [0] * 40_000},
        {"x": {"y": 1e400}},
        {"account": "x" * 90_000},
    ],
)
async def test_a_body_that_the_daemon_would_refuse(body: dict[str, Any]) -> None:
    """It is refused here: the daemon would close the connection that all clients share."""
    async with a_site() as (daemon, port):
        answer = await ask(port, "/api/operations/threads.list", "POST", token=ADMIN, content=body)
        assert 400 <= answer.status < 500, answer
        refused = await ask(port, "/api/operations/threads.list", "POST", content=body)
        assert refused.status == 401, refused
        after = await ask(port, "/api/whatsapp/accounts", token=ADMIN)
        assert (after.status, daemon.internal_errors) == (200, 0)


async def test_a_body_that_is_nested_too_deep() -> None:
    """The same for lists within lists."""
    nested: Any = 0
    for _ in range(200):
        nested = [nested]
    async with a_site() as (_, port):
        content = {"x": nested}
        answer = await ask(
            port, "/api/operations/threads.list", "POST", token=ADMIN, content=content
        )
        assert (answer.status, answer.document["error"]) == (400, "bad_input")
        assert (await ask(port, "/healthz")).status == 200
