"""`wadctl verify` with a Firestore store: a sent message must be in Firestore, and a missing index is named."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contracts.world import ANN_THREAD
from tests.firestore.daemons import a_machine
from tests.firestore.legacy_documents import a_thread, of_m, put
from tests.firestore.refusing import LINK, no_descending_index, no_index, refusing
from tests.firestore.stores import Console
from tests.firestore.test_system import a_site
from wad.lib.clock import SystemClock
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(240)


async def test_a_message_gets_to_firestore_and_stays_one(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """Sent, pushed, and after a restart stored once."""
    async with a_site(access, tmp_path) as site:
        await site.until_pushed([await site.bob.send_text(site.account, "one")])
        done = await site.machine.daemon.wadctl(
            "verify", "--to", "+15550000012", "--restarts", "1", "--json", timeout=200
        )
        report = json.loads(done.stdout)
        assert (done.returncode, report["verdict"], report["quickWrite"]["sent"]) == (0, True, True)
        assert (report["before"]["activeDocs"], report["after"]["activeDocs"]) == (1, 2)
        assert len(await site.messages()) == 2


async def test_a_missing_index_has_the_references_name(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """Without any index the audit fails, and the link is shown; a slower index has to be allowed."""
    now = SystemClock().wall_ms()
    with closing(Console(access)) as console:
        await put(console, a=of_m("W1", now))
        await console.set(f"threads/{ANN_THREAD}", a_thread(now))
    environ = {"WAD_STORE_KIND": "firestore", "RUN_RESTART": "false"}
    with refusing(access.emulator, no_index) as address:
        there = replace(access, emulator=address)
        async with a_machine(tmp_path, there, "a", environ=environ) as machine:
            done = await machine.daemon.wadctl("verify", "--json", timeout=60)
    failure = json.loads(done.stdout)
    assert (done.returncode, failure["error"]) == (2, "firestore_index_required")
    assert (failure["step"], failure["indexLink"]) == ("audit_failed_before", LINK)
    with refusing(access.emulator, no_descending_index) as address:
        there = replace(access, emulator=address)
        async with a_machine(tmp_path, there, "b", environ=environ) as machine:
            await machine.daemon.start()
            await machine.daemon.call("accounts.add", name="shop")
            done = await machine.daemon.wadctl("verify", "--json", timeout=60)
    report = json.loads(done.stdout)
    assert (done.returncode, report["usedFallback"], report["modeUsed"]) == (2, True, "asc_fallback")  # fmt: skip
