"""Users of the apps: id tokens and App Check against served keys, and the roles that the configuration gives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import a_daemon
from tests.support.fake_daemon import FakeDaemon, http_settings
from tests.support.firebase import (
    NUMBER,
    KeyServer,
    Signer,
    a_key_server,
    app_claims,
    b64,
    user_claims,
)
from tests.support.http_client import ask, pair
from tests.support.serving import serve_http
from wad.api.callers.keys import Fetched, Keys, fetch
from wad.core.connection import State
from wad.core.errors import Unavailable

NOW = 1_700_000_000.0
ACCOUNTS = "/api/whatsapp/accounts"


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    """A server of the signing keys."""
    with a_key_server() as server:
        yield server


class Staff:
    """The employees, as a store has them."""

    def __init__(self, *uids: str) -> None:
        self.uids = set(uids)
        self.asked: list[str] = []
        self.down = False

    async def has(self, uid: str) -> bool:
        """Whether this user is an employee."""
        self.asked.append(uid)
        if self.down:
            raise Unavailable("the store is away")
        return uid in self.uids


@asynccontextmanager
async def a_site(
    keys: KeyServer, staff: Staff | None = None, **settings: Any
) -> AsyncIterator[tuple[FakeDaemon, int]]:
    """A served fake daemon that knows the users of a project; every user is a viewer."""
    daemon = FakeDaemon()
    given = {"user_role": "viewer", **keys.settings(), **settings}
    daemon.loaded.config.http = http_settings(**given)
    daemon.accounts.have("acc-1").become(State.AWAITING_SCAN)
    daemon.store.staff = staff
    async with serve_http(daemon, "127.0.0.1", 0) as port:
        yield daemon, port


def user(**changes: Any) -> str:
    """The id token of a signed-in user."""
    return Signer().token(user_claims(NOW, **changes))


async def test_a_signed_in_user_may_look(keys: KeyServer) -> None:
    """With the role that the configuration gives to every user."""
    async with a_site(keys) as (_, port):
        assert (await ask(port, ACCOUNTS, token=user())).status == 200
        assert (await pair(port, user())).status == 403


async def test_by_default_signing_in_is_not_enough(keys: KeyServer) -> None:
    """Deny by default: a user without a role gets 403 and an error text."""
    async with a_site(keys, user_role="none") as (_, port):
        answer = await ask(port, ACCOUNTS, token=user())
    assert (answer.status, answer.document["error"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (user(aud="another"), "wrong_audience"),
        (user(iss="https://securetoken.google.com/another"), "wrong_issuer"),
        (user(exp=NOW - 3600), "token_expired"),
        (user(iat=NOW + 3600), "token_not_yet_valid"),
        (Signer("stranger").token(user_claims(NOW), kid="key-1"), "invalid_signature"),
        (Signer("stranger").token(user_claims(NOW)), "unknown_key"),
        (Signer().token(user_claims(NOW), alg="none"), "wrong_algorithm"),
        (Signer().token(user_claims(NOW), alg="HS256"), "wrong_algorithm"),
        (user().rpartition(".")[0] + ".", "invalid_signature"),
        ("a.b.c", "invalid_token"),
    ],
)
async def test_a_token_that_proves_nothing(keys: KeyServer, token: str, code: str) -> None:
    """401, each with its code."""
    async with a_site(keys) as (daemon, port):
        answer = await ask(port, ACCOUNTS, token=token)
    assert (answer.status, answer.document["error"], answer.document["code"]) == (
        401,
        "unauthorized",
        code,
    )
    assert isinstance(answer.document["message"], str)
    assert daemon.internal_errors == 0


async def test_claims_that_were_changed(keys: KeyServer) -> None:
    """Another user in a token that was signed for the first one."""
    head, _, signature = user().split(".")
    import json

    forged = b64(json.dumps(user_claims(NOW, sub="admin-uid")).encode())
    async with a_site(keys, admins="admin-uid") as (_, port):
        answer = await ask(port, ACCOUNTS, token=f"{head}.{forged}.{signature}")
    assert (answer.status, answer.document["code"]) == (401, "invalid_signature")


# --- roles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("admins", ["uid-1", "Anna@Example.org", "x, anna@example.org"])
async def test_an_administrator(keys: KeyServer, admins: str) -> None:
    """By uid or by address, whatever its letters."""
    async with a_site(keys, admins=admins) as (_, port):
        assert (await pair(port, user())).status == 200


async def test_an_address_that_is_not_verified(keys: KeyServer) -> None:
    """A stranger can sign up with an address of another person."""
    async with a_site(keys, admins="anna@example.org") as (_, port):
        assert (await pair(port, user(email_verified=False))).status == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "anna@example.org", "email_verified": False},
        {"sub": "anna@example.org", "email": "eve@example.org"},
        {"sub": "ANNA@example.org", "email": "", "email_verified": True},
        {"sub": "x", "email": "uid-9"},
        {"sub": "UID-9", "email": ""},
        {"sub": "uid:uid-9", "email": ""},
        {"sub": "x", "email": "uid:uid-9"},
        {"sub": "x", "email": "\u212aate@example.org"},
        {"sub": "x", "email": "anna@example.or\u0261"},
    ],
)
async def test_a_name_of_one_kind_is_none_of_the_other(
    keys: KeyServer, claims: dict[str, Any]
) -> None:
    """A uid that equals an administrator's address, an address that equals a uid, letters that only look alike."""
    admins = "anna@example.org, kate@example.org, uid-9"
    async with a_site(keys, admins=admins, employees=admins) as (_, port):
        assert (await pair(port, user(**claims))).status == 403


@pytest.mark.parametrize("sub", ["uid-9", "odd@uid"])
async def test_a_uid_can_be_named_as_one(keys: KeyServer, sub: str) -> None:
    """With `uid:` also one that has an @ in it, which would be read as an address."""
    async with a_site(keys, admins="uid:odd@uid,uid:uid-9") as (_, port):
        assert (await pair(port, user(sub=sub))).status == 200
        assert (await pair(port, user(sub="x", email="odd@uid"))).status == 403


async def test_employees_of_the_configuration_and_of_the_store(keys: KeyServer) -> None:
    """Either makes an employee, who sees no code and cannot pair."""
    staff = Staff("uid-2")
    path = "/whatsappProxyGetAccountsStaff"
    async with a_site(keys, staff, employees="uid-1", user_role="none") as (_, port):
        statuses = [
            (await ask(port, path, token=user(sub=uid))).status
            for uid in ("uid-1", "uid-2", "uid-3")
        ]
        refused = await pair(port, user(sub="uid-2"))
    assert statuses == [200, 200, 403]
    assert refused.status == 403
    assert "uid-1" not in staff.asked


async def test_the_store_is_asked_once_a_minute(keys: KeyServer) -> None:
    """A user who is removed from the staff is refused a minute later."""
    staff = Staff("uid-1")
    path = "/whatsappProxyGetAccountsStaff"
    async with a_site(keys, staff, user_role="none") as (daemon, port):
        for _ in range(3):
            assert (await ask(port, path, token=user())).status == 200
        assert staff.asked == ["uid-1"]
        staff.uids.clear()
        daemon.clock.wall += 61_000
        assert (await ask(port, path, token=user())).status == 403


async def test_a_store_that_is_away(keys: KeyServer) -> None:
    """503 with the reference's text: a user whose role cannot be read is refused."""
    staff = Staff("uid-1")
    staff.down = True
    async with a_site(keys, staff) as (_, port):
        answer = await ask(port, ACCOUNTS, token=user())
    assert (answer.status, answer.document["error"]) == (503, "auth_unavailable")


async def test_each_user_has_limits_of_their_own(keys: KeyServer) -> None:
    """By uid, and not by token, which an app renews."""
    async with a_site(keys, admins="uid-1 uid-2", rate_qr=1) as (_, port):
        assert (await pair(port, user())).status == 200
        assert (await pair(port, user(iat=NOW - 5))).status == 429
        assert (await pair(port, user(sub="uid-2"))).status == 200


async def test_who_am_i(keys: KeyServer) -> None:
    """What a user is here."""
    async with a_site(keys, employees="uid-1") as (_, port):
        answer = await ask(port, "/whatsappWhoAmI", token=user())
    assert answer.document == {
        "success": True, "uid": "uid-1", "email": "anna@example.org", "name": "user uid-1",
        "isSuperAdmin": False, "isEmployee": True,
    }  # fmt: skip


# --- App Check ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proof", "error", "code"),
    [
        ("", "missing_app_check", "missing"),
        ("x.y.z", "invalid_app_check", "invalid_token"),
        (
            Signer().token(app_claims(NOW, aud=["projects/1"])),
            "invalid_app_check",
            "wrong_audience",
        ),
        (Signer().token(app_claims(NOW, exp=NOW - 100)), "invalid_app_check", "token_expired"),
        (Signer().token(app_claims(NOW, iss="https://x/1")), "invalid_app_check", "wrong_issuer"),
        (
            Signer("stranger").token(app_claims(NOW), kid="key-1"),
            "invalid_app_check",
            "invalid_signature",
        ),
        (user(), "invalid_app_check", "wrong_audience"),
    ],
)
async def test_an_app_that_proves_nothing(
    keys: KeyServer, proof: str, error: str, code: str
) -> None:
    """A user of an unknown app is refused, each with its code."""
    async with a_site(keys, app_check_project=NUMBER) as (_, port):
        answer = await ask(port, ACCOUNTS, token=user(), headers={"X-Firebase-AppCheck": proof})
    assert (answer.status, answer.document["error"], answer.document["code"]) == (401, error, code)


async def test_a_known_app(keys: KeyServer) -> None:
    """Its users are let in."""
    proof = Signer().token(app_claims(NOW))
    async with a_site(keys, app_check_project=NUMBER) as (_, port):
        answer = await ask(port, ACCOUNTS, token=user(), headers={"X-Firebase-AppCheck": proof})
    assert answer.status == 200


# --- keys -----------------------------------------------------------------------------------------


async def test_keys_are_kept_and_fetched_again(keys: KeyServer) -> None:
    """As long as the server says; a key that is new is found at once when a minute has passed."""
    async with a_site(keys) as (daemon, port):
        for _ in range(3):
            assert (await ask(port, ACCOUNTS, token=user())).status == 200
        assert keys.asked == 1
        keys.signers = [Signer("key-2")]
        other = Signer("key-2").token(user_claims(NOW))
        assert (await ask(port, ACCOUNTS, token=other)).document["code"] == "unknown_key"
        daemon.clock.wall += 61_000
        assert (await ask(port, ACCOUNTS, token=other)).status == 200
        assert (await ask(port, ACCOUNTS, token=user())).document["code"] == "unknown_key"
        assert keys.asked == 2


async def test_keys_that_cannot_be_had(keys: KeyServer) -> None:
    """503 while there are none; those that are known go on."""
    keys.down = True
    async with a_site(keys) as (daemon, port):
        answer = await ask(port, ACCOUNTS, token=user())
        assert (answer.status, answer.document["error"]) == (503, "auth_unavailable")
        keys.down = False
        daemon.clock.wall += 61_000
        assert (await ask(port, ACCOUNTS, token=user())).status == 200
        keys.down = True
        daemon.clock.wall += 3_000_000
        late = Signer().token(user_claims(daemon.clock.wall / 1000))
        assert (await ask(port, ACCOUNTS, token=late)).status == 200


async def test_old_keys_are_good_for_a_day() -> None:
    """After that no signature can be verified."""
    now = [0.0]
    answers = [Fetched(b'{"keys": []}', 100.0)]

    async def fetch(url: str) -> Fetched:
        if not answers:
            raise OSError("no answer")
        return answers.pop()

    keys = Keys("https://example.org/", fetch, lambda: now[0])
    assert await keys.find("key-1") is None
    now[0] = 86_000
    assert await keys.find("key-1") is None
    now[0] = 86_500
    with pytest.raises(Unavailable, match="no answer"):
        await keys.find("key-1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"a": 1}',
        b'{"a": "no certificate"}',
        b'{"keys": [1]}',
        b"\xff",
        b'{"keys": [{"kid": "a", "kty": "RSA", "n": "", "e": "!"}]}',
        b'{"keys": [{"kid": "a", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]}',
    ],
)
async def test_a_document_without_keys(body: bytes) -> None:
    """Another document than keys (a hotel network's login page) is reported as unavailable, not as a fault of wad."""

    async def fetch(url: str) -> Fetched:
        return Fetched(body, None)

    with pytest.raises(Unavailable):
        await Keys("https://example.org/", fetch, lambda: 0.0).find("key-1")


@pytest.mark.parametrize(
    "answer",
    [
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"",
    ],
    ids=["no HTTP", "cut in a chunk", "nothing"],
)
async def test_a_server_of_keys_that_breaks_off(answer: bytes) -> None:
    """The keys cannot be fetched, as if the server does not answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        keys = Keys(f"http://127.0.0.1:{port}/", fetch, lambda: 0.0)
        with pytest.raises(Unavailable):
            await keys.find("key-1")


async def test_many_at_once_fetch_once() -> None:
    """A burst after a start asks for the keys one time."""
    asked = []

    async def fetch(url: str) -> Fetched:
        asked.append(url)
        await asyncio.sleep(0)
        return Fetched(b'{"keys": []}', None)

    keys = Keys("https://example.org/", fetch, lambda: 0.0)
    await asyncio.gather(*(keys.find(f"key-{n}") for n in range(50)))
    assert len(asked) == 1


async def test_a_known_key_waits_for_no_unknown_one() -> None:
    """A token with an unknown key delays no other caller while the keys are fetched."""
    asked, answer = asyncio.Event(), asyncio.Event()
    signer = Signer()
    now = [0.0]

    async def fetch(url: str) -> Fetched:
        if now[0]:
            asked.set()
            await answer.wait()
        return Fetched(json.dumps({signer.name: signer.certificate()}).encode(), 1000.0)

    keys = Keys("https://example.org/", fetch, lambda: now[0])
    assert await keys.find("key-1") is not None
    now[0] = 100.0
    stranger = asyncio.create_task(keys.find("key-2"))
    await asked.wait()
    async with asyncio.timeout(30):
        assert await keys.find("key-1") is not None
    answer.set()
    assert await stranger is None


# --- the live daemon --------------------------------------------------------------------------------


async def test_the_live_daemon_authenticates_users(keys: KeyServer, tmp_path: Path) -> None:
    """From its environment alone: an administrator adds an account, a stranger is refused."""
    environ = {
        f"WAD_HTTP_{name.upper()}": text
        for name, text in (keys.settings() | {"admins": "anna@example.org"}).items()
    }
    async with a_daemon(tmp_path, environ, engine="simulator") as daemon:
        now = time.time()
        anna = Signer().token(user_claims(now))
        eve = Signer().token(user_claims(now, sub="uid-2", email="eve@example.org"))
        old = Signer().token(user_claims(now, exp=now - 3600))
        path = "/api/whatsapp/add-account"
        replies = [
            await ask(daemon.port, path, "POST", content={"name": "shop"}, token=token)
            for token in (anna, eve, old)
        ]
        accounts = await daemon.call("accounts.list")
    assert [reply.status for reply in replies] == [200, 403, 401]
    assert [account["name"] for account in accounts] == ["shop"]
    assert anna not in daemon.log.read_text()
