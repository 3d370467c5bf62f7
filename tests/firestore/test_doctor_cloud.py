"""`wadctl doctor` with the lease in Firestore: real daemons, the emulator, and network failures."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contracts.world import ANN_THREAD
from tests.firestore.daemons import a_machine
from tests.firestore.legacy_documents import a_thread, of_m, put
from tests.firestore.proxy import Weather
from tests.firestore.refusing import denied, no_index, refusing
from tests.firestore.stores import Console
from wad.lib.clock import SystemClock
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(180)


async def test_an_active_and_a_passive_machine(tmp_path: Path, access: FirestoreAccess) -> None:
    """An emulator is reported; a standby is distinguished from a fault."""
    async with a_machine(tmp_path, access, "a") as a, a_machine(tmp_path, access, "b") as b:
        await a.daemon.start()
        await a.until_mode("active")
        await b.daemon.start()
        await b.until_holder("a")
        active, standby = await a.daemon.doctor("--full"), await b.daemon.doctor("--full")
    assert active["lock"]["outcome"] == "PASS"
    assert (active["firestore"]["outcome"], standby["firestore"]["outcome"]) == ("WARN", "WARN")
    assert "mode emulator" in active["firestore"]["evidence"]
    assert (standby["lock"]["outcome"], standby["lock"]["fix"]) == ("WARN", ["run wadctl on a"])


async def test_firestore_cannot_be_reached(tmp_path: Path, access: FirestoreAccess) -> None:
    """No instance is active, and the Firestore finding has the reason."""
    async with a_machine(tmp_path, access, "a") as machine:
        machine.proxy.weather = Weather.REFUSED
        await machine.daemon.start()
        await machine.until_mode("passive")
        checks = await machine.daemon.doctor("--full")
    assert checks["firestore"]["outcome"] == "FAIL"
    assert "cannot read the lease" in checks["firestore"]["evidence"]
    assert checks["firestore"]["fix"][0] == "getent hosts 127.0.0.1"
    assert checks["lock"]["outcome"] == "FAIL"


async def test_invalid_credentials(tmp_path: Path, access: FirestoreAccess) -> None:
    """The daemon does not start with them; the finding has the reason, and quotes nothing."""
    environ = {
        "FIREBASE_SERVICE_ACCOUNT_JSON": '{"private_key": "secret"}',
        "FIRESTORE_EMULATOR_HOST": "",
    }
    async with a_machine(tmp_path, access, "a", environ=environ) as machine:
        checks = await machine.daemon.doctor("--full")
    assert checks["firestore"]["outcome"] == "FAIL"
    assert "client_email" in checks["firestore"]["evidence"]
    assert "secret" not in json.dumps(checks)


async def test_a_service_account_without_permissions(
    tmp_path: Path, access: FirestoreAccess
) -> None:
    """One finding has the roles to grant, and the audits are not reported as failed as well."""
    with refusing(access.emulator, denied) as address:
        there = replace(access, emulator=address)
        environ = {"WAD_STORE_KIND": "firestore"}
        async with a_machine(tmp_path, there, "a", environ=environ) as machine:
            await machine.daemon.start()
            await machine.until_mode("passive")
            checks = await machine.daemon.doctor("--full")
    assert checks["firestore"]["outcome"] == "FAIL"
    assert "denies access" in checks["firestore"]["evidence"]
    assert "roles/datastore.user" in checks["firestore"]["fix"][1]
    assert checks["duplicates"]["outcome"] == "SKIPPED"


async def test_firestore_is_audited(tmp_path: Path, access: FirestoreAccess) -> None:
    """Duplicates of the legacy backend are found in Firestore; the fix repairs them while the daemon runs."""
    now = SystemClock().wall_ms()
    with closing(Console(access)) as console:
        await put(console, a=of_m("W1", now), b=of_m("W1", now))
        await console.set(f"threads/{ANN_THREAD}", a_thread(now))
    environ = {"WAD_STORE_KIND": "firestore"}
    async with a_machine(tmp_path, access, "a", environ=environ) as machine:
        await machine.daemon.start()
        await machine.until_mode("active")
        checks = await machine.daemon.doctor("--full")
        assert checks["duplicates"]["outcome"] == "FAIL"
        assert checks["duplicates"]["fix"][-1] == "wadctl audit repair --apply"
        mended = await machine.daemon.wadctl("audit", "repair", "--apply")
        assert mended.returncode == 0, mended
        assert (await machine.daemon.doctor("--full"))["duplicates"]["outcome"] == "PASS"


async def test_a_missing_index(tmp_path: Path, access: FirestoreAccess) -> None:
    """Nothing else is wrong; the fix creates it."""
    with refusing(access.emulator, no_index) as address:
        there = replace(access, emulator=address)
        environ = {"WAD_STORE_KIND": "firestore"}
        async with a_machine(tmp_path, there, "a", environ=environ) as machine:
            await machine.daemon.start()
            await machine.until_mode("active")
            checks = await machine.daemon.doctor("--full")
    assert (checks["duplicates"]["outcome"], checks["lock"]["outcome"]) == ("FAIL", "PASS")
    assert checks["duplicates"]["fix"][0].startswith("firebase deploy --only firestore:indexes")
