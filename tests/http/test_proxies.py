"""The paths of the Functions proxies, in the shapes that the apps send them, and the two that send no token."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_daemon import FakeDaemon, http_settings
from tests.support.http_client import ask
from tests.support.serving import serve_http
from tests.system.rest import ADMIN, BOB, a_site
from wad.core.connection import State
from wad.core.networks import is_inside, networks

pytestmark = pytest.mark.timeout(180)


@asynccontextmanager
async def a_fake(**settings: Any) -> AsyncIterator[tuple[FakeDaemon, int]]:
    """A served fake daemon with an account that shows its code."""
    daemon = FakeDaemon()
    daemon.loaded.config.http = http_settings(**settings)
    shown = daemon.accounts.have("acc-1")
    shown.become(State.AWAITING_SCAN, qr="2@code", pair_until=2000.0)
    shown.qr_ms = daemon.clock.wall
    async with serve_http(daemon, "127.0.0.1", 0) as port:
        yield daemon, port


HEADERLESS = [
    ("GET", "/api/whatsapp/accounts"),
    ("POST", "/api/whatsapp/regenerate-qr/acc-1"),
    ("GET", "/whatsappProxyGetAccounts"),
    ("POST", "/whatsappProxyRegenerateQr?accountId=acc-1"),
]


@pytest.mark.parametrize(("method", "path"), HEADERLESS)
async def test_without_a_token_access_is_refused(method: str, path: str) -> None:
    """The two proxies that send none are refused by default, and from other networks."""
    for networks_text in ("", "10.0.0.0/8, fd00::/8"):
        async with a_fake(headerless_networks=networks_text) as (_, port):
            assert (await ask(port, path, method)).status == 401


@pytest.mark.parametrize(("method", "path"), HEADERLESS)
async def test_a_named_network_needs_none(method: str, path: str) -> None:
    """It gets the state without the code, or with it where that is allowed."""
    for allowed in (False, True):
        async with a_fake(headerless_networks="127.0.0.0/8", headerless_qr=allowed) as (_, port):
            answer = await ask(port, path, method)
        assert answer.status == 200
        assert (b"data:image/png" in answer.body) is allowed


async def test_a_named_network_has_no_other_access() -> None:
    """Every other route needs a token, and a wrong token is refused from there as well."""
    async with a_fake(headerless_networks="127.0.0.0/8") as (_, port):
        for method, path in (
            ("GET", "/accounts"),
            ("DELETE", "/api/whatsapp/accounts/acc-1"),
            ("POST", "/api/whatsapp/add-account"),
            ("GET", "/api/whatsapp/threads/acc-1"),
            ("GET", "/api/whatsapp/qr/acc-1"),
        ):
            assert (await ask(port, path, method)).status == 401
        assert (await ask(port, "/api/whatsapp/accounts", token="wrong")).status == 401
        forwarded = {"X-Forwarded-For": "127.0.0.1"}
    async with a_fake(headerless_networks="10.0.0.0/8") as (_, port):
        claimed = await ask(
            port, "/api/whatsapp/accounts", headers=forwarded | {"X-Real-IP": "10.0.0.1"}
        )
        assert claimed.status == 401


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("11.1.2.3", False),
        ("", False),
        ("odd", False),
    ],
)
def test_networks(address: str, inside: bool) -> None:
    """Addresses of both kinds, and invalid ones."""
    assert is_inside(address, networks("10.0.0.0/8 fe80::/10")) is inside


async def test_every_proxy_s_path(tmp_path: Path) -> None:
    """From adding an account to deleting it, as the apps do it, against the live daemon."""
    async with a_site(tmp_path) as site:
        port = site.daemon.port

        async def call(path: str, method: str = "GET", content: object = None) -> Any:
            reply = await ask(port, f"/whatsappProxy{path}", method, content=content, token=ADMIN)
            assert reply.status == 200, reply
            assert reply.document["success"] is True
            return reply.document

        added = await call("AddAccount", "POST", {"name": "shop", "phone": "+15550000001"})
        ident = added["account"]["id"]
        await site.daemon.wait_account("shop", lambda shown: shown["qr"], "a code")
        again = await call(f"RegenerateQr?accountId={ident}", "POST")
        assert again["qrCode"].startswith("data:image/png;base64,")
        (listed,) = (await call("GetAccounts"))["accounts"]
        assert listed["qrCode"].startswith("data:image/png;base64,")
        (for_staff,) = (await call("GetAccountsStaff"))["accounts"]
        assert (for_staff["status"], for_staff["qrCode"]) == ("qr_ready", None)
        await site.account.phone.scan(str((await site.daemon.account("shop"))["qr"]))
        await site.daemon.wait_state("shop", "connected")
        await site.receive("one", "two")

        thread = f"{ident}__{BOB}"
        assert (await call(f"GetThreads?accountId={ident}&limit=50"))["threads"][0]["id"] == thread
        page = await call(f"GetMessages?accountId={ident}&threadId={thread}&limit=1")
        rest = await call(
            f"GetMessages?accountId={ident}&threadId={thread}&limit=1&after={page['nextCursor']}"
        )
        assert [m["body"] for one in (page, rest) for m in one["messages"]] == ["two", "one"]
        assert (await call(f"GetInbox?accountId={ident}&limit=500"))["count"] == 2

        wanted = {
            "threadId": thread, "accountId": ident, "toJid": BOB, "text": "hi", "clientMessageId": "c-1",
        }  # fmt: skip
        sent = await call("Send", "POST", wanted)
        await site.bob.received(site.account, text="hi")
        key = f"{thread}|token tests|c-1"
        assert sent["requestId"] == hashlib.sha256(key.encode()).hexdigest()
        assert (sent["duplicate"], (await call("Send", "POST", wanted))["duplicate"]) == (
            False,
            True,
        )

        filled = await call(f"BackfillAccount?accountId={ident}", "POST")
        assert filled["accountId"] == ident
        missing = await ask(port, "/whatsappProxyDeleteAccount", "POST", token=ADMIN)
        assert (missing.status, missing.document["error"]) == (400, "invalid_request")
        who = await ask(port, "/whatsappWhoAmI", token=ADMIN)
        assert who.document["isSuperAdmin"] is True
        deleted = await call(f"DeleteAccount?accountId={ident}", "POST")
        assert deleted["status"] == "deleted"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"text": None}, 400),
        ({"clientMessageId": ""}, 400),
        ({"threadId": "acc-2__15550000012@s.whatsapp.net"}, 403),
        ({"toJid": "15550000013@s.whatsapp.net"}, 400),
        ({"accountId": "nobody"}, 404),
    ],
)
async def test_a_proxy_reports_an_invalid_message(change: dict[str, Any], status: int) -> None:
    """With the reference's statuses."""
    wanted = {
        "threadId": f"acc-1__{BOB}", "accountId": "acc-1", "toJid": BOB, "text": "hi", "clientMessageId": "c-1",
    }  # fmt: skip
    async with a_fake(admin_token="s3cret") as (_, port):
        reply = await ask(
            port, "/whatsappProxySend", "POST", content=wanted | change, token="s3cret"
        )
    assert reply.status == status
    assert isinstance(reply.document["message"], str)
