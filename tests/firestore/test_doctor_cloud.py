"""`wadctl doctor` where the lease lies in Firestore: real daemons, the emulator, and a network that goes away."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.world import ANN_THREAD
from tests.firestore.daemons import Machine, a_machine
from tests.firestore.left_behind import a_thread, of_m, put
from tests.firestore.proxy import Weather
from tests.firestore.refusing import denied, no_index, refusing
from tests.firestore.stores import Console
from wad.lib.clock import SystemClock
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(180)


async def examined(machine: Machine) -> dict[str, Any]:
    """Every line by its id."""
    done = await machine.daemon.wadctl("doctor", "--json", "--full", timeout=100)
    return {check["id"]: check for check in json.loads(done.stdout)["checks"]}


async def test_the_one_that_acts_and_the_one_that_stands_by(
    tmp_path: Path, access: FirestoreAccess
) -> None:
    """An emulator is no place for a lease; a standby is told apart from a fault."""
    async with a_machine(tmp_path, access, "a") as a, a_machine(tmp_path, access, "b") as b:
        await a.daemon.start()
        await a.until_mode("active")
        await b.daemon.start()
        await b.until_holder("a")
        active, standby = await examined(a), await examined(b)
    assert active["lock"]["outcome"] == "PASS"
    assert (active["firestore"]["outcome"], standby["firestore"]["outcome"]) == ("WARN", "WARN")
    assert "mode emulator" in active["firestore"]["evidence"]
    assert (standby["lock"]["outcome"], standby["lock"]["fix"]) == ("WARN", ["run wadctl on a"])


async def test_firestore_cannot_be_reached(tmp_path: Path, access: FirestoreAccess) -> None:
    """Nobody acts, and the line that says why is the one about Firestore."""
    async with a_machine(tmp_path, access, "a") as machine:
        machine.proxy.weather = Weather.REFUSED
        await machine.daemon.start()
        await machine.until_mode("passive")
        checks = await examined(machine)
    assert checks["firestore"]["outcome"] == "FAIL"
    assert "cannot read the lease" in checks["firestore"]["evidence"]
    assert checks["firestore"]["fix"][0] == "getent hosts 127.0.0.1"
    assert checks["lock"]["outcome"] == "FAIL"


async def test_credentials_that_are_none(tmp_path: Path, access: FirestoreAccess) -> None:
    """The daemon does not start with them; the line says what is wrong, and quotes nothing."""
    environ = {
        "FIREBASE_SERVICE_ACCOUNT_JSON": '{"private_key": "secret"}',
        "FIRESTORE_EMULATOR_HOST": "",
    }
    async with a_machine(tmp_path, access, "a", environ=environ) as machine:
        checks = await examined(machine)
    assert checks["firestore"]["outcome"] == "FAIL"
    assert "client_email" in checks["firestore"]["evidence"]
    assert "secret" not in json.dumps(checks)


async def test_a_service_account_that_may_nothing(tmp_path: Path, access: FirestoreAccess) -> None:
    """The right line says what to grant, and the audits are not called broken as well."""
    with refusing(access.emulator, denied) as address:
        there = replace(access, emulator=address)
        environ = {"WAD_STORE_KIND": "firestore"}
        async with a_machine(tmp_path, there, "a", environ=environ) as machine:
            await machine.daemon.start()
            await machine.until_mode("passive")
            checks = await examined(machine)
    assert checks["firestore"]["outcome"] == "FAIL"
    assert "denies access" in checks["firestore"]["evidence"]
    assert "roles/datastore.user" in checks["firestore"]["fix"][1]
    assert checks["duplicates"]["outcome"] == "SKIPPED"


async def test_what_lies_in_firestore_is_audited(tmp_path: Path, access: FirestoreAccess) -> None:
    """Documents that the backend before wad wrote twice are found there; the fix mends them beside the daemon."""
    now = SystemClock().wall_ms()
    with closing(Console(access)) as console:
        await put(console, a=of_m("W1", now), b=of_m("W1", now))
        await console.set(f"threads/{ANN_THREAD}", a_thread(now))
    environ = {"WAD_STORE_KIND": "firestore"}
    async with a_machine(tmp_path, access, "a", environ=environ) as machine:
        await machine.daemon.start()
        await machine.until_mode("active")
        checks = await examined(machine)
        assert checks["duplicates"]["outcome"] == "FAIL"
        assert checks["duplicates"]["fix"][-1] == "wadctl audit repair --apply"
        mended = await machine.daemon.wadctl("audit", "repair", "--apply")
        assert mended.returncode == 0, mended
        assert (await examined(machine))["duplicates"]["outcome"] == "PASS"


async def test_an_index_that_is_missing(tmp_path: Path, access: FirestoreAccess) -> None:
    """Nothing else is wrong; the fix makes it."""
    with refusing(access.emulator, no_index) as address:
        there = replace(access, emulator=address)
        environ = {"WAD_STORE_KIND": "firestore"}
        async with a_machine(tmp_path, there, "a", environ=environ) as machine:
            await machine.daemon.start()
            await machine.until_mode("active")
            checks = await examined(machine)
    assert (checks["duplicates"]["outcome"], checks["lock"]["outcome"]) == ("FAIL", "PASS")
    assert checks["duplicates"]["fix"][0].startswith("firebase deploy --only firestore:indexes")
