"""Employees, from the apps' own documents."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.firestore.daemons import a_machine
from tests.firestore.proxy import Weather
from tests.firestore.stores import Console, a_store
from tests.support.firebase import Signer, a_key_server, user_claims
from tests.support.http_client import Reply, ask
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("uid", ["uid-2", "uid-1/more", "uid-1/a/b", ".", "__x__", ""])
async def test_a_user_without_a_profile_is_not_an_employee(
    access: FirestoreAccess, tmp_path: Path, uid: str
) -> None:
    """Nor is a user whose uid is not a document id, or is a path."""
    console = Console(access)
    await console.set("staffProfiles/uid-1", {"name": "Anna"})
    await console.set("staffProfiles/uid-1/a/b", {"name": "Eve"})
    async with a_store(access, tmp_path) as store:
        assert await store.staff.has("uid-1")
        assert not await store.staff.has(uid)
    console.close()


async def test_the_live_daemon_asks_for_the_profile(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """An employee has more access than a user who is only signed in; while Firestore is unreachable no user is an
    employee."""
    console = Console(access)
    await console.set("staffProfiles/uid-1", {"name": "Anna"})
    with a_key_server() as keys:
        environ = {f"WAD_HTTP_{name.upper()}": text for name, text in keys.settings().items()}
        environ["WAD_STORE_KIND"] = "firestore"
        async with a_machine(tmp_path, access, "a", environ=environ) as machine:
            await machine.daemon.start()
            await machine.until_mode("active")

            async def as_user(uid: str) -> Reply:
                token = Signer().token(user_claims(time.time(), sub=uid))
                path = "/whatsappProxyGetAccountsStaff"
                return await ask(machine.daemon.port, path, token=token)

            assert (await as_user("uid-1")).status == 200
            assert (await as_user("uid-2")).status == 403
            machine.proxy.weather = Weather.REFUSED
            away = await as_user("uid-3")
    assert (away.status, away.document["error"]) == (503, "auth_unavailable")
    console.close()
