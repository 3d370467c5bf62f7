"""The audits where the store is Firestore: they look at the working copy of this machine."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.audit.damage import copy_message, ids
from tests.contracts.world import ACC, BOB, NOON, arrival
from tests.firestore.daemons import a_machine
from tests.firestore.test_telling import reigning
from wad.audit import open_rows
from wad.audit.duplicates import Question, audit_messages, audit_threads
from wad.store.firestore.access import Access

pytestmark = pytest.mark.timeout(180)


async def test_what_other_machines_told_is_looked_at(access: Access, tmp_path: Path) -> None:
    """And what this one has; a message that is there twice is found, and nothing else."""
    (tmp_path / "other").mkdir()
    async with reigning(access, tmp_path / "other", "there", epoch=1) as store:
        await store.record(ACC, [*arrival(1), *arrival(1, BOB)])
        await store.told()
    question = Question(NOON + 60_000)
    async with reigning(access, tmp_path, "wad", epoch=2) as store:
        await store.record(ACC, [*arrival(1), *arrival(2)])
        with closing(open_rows("firestore", tmp_path)) as rows:
            messages, threads = audit_messages(rows, question), audit_threads(rows, question)
    assert (messages.verdict, messages.store, messages.total_docs) == ("clean", "firestore", 3)
    assert (threads.verdict, threads.total_threads) == ("clean", 2)
    copy_message(tmp_path / "wad.db", ids(tmp_path / "wad.db")[0], "twin")
    with closing(open_rows("firestore", tmp_path)) as rows:
        assert audit_messages(rows, question).duplicates_count_active == 1


async def test_wadctl_beside_the_daemon(tmp_path: Path, access: Access) -> None:
    """The commands find the working copy by the daemon's configuration; repair leaves Firestore alone."""
    environ = {"WAD_STORE_KIND": "firestore"}
    async with a_machine(tmp_path, access, "a", environ=environ) as machine:
        await machine.daemon.start()
        await machine.until_mode("active")
        audit = await machine.daemon.wadctl("audit", "messages", "--json")
        repair = await machine.daemon.wadctl("audit", "repair", "--json")
        doctor = await machine.daemon.wadctl("doctor", "--json", timeout=100)
    assert (audit.returncode, json.loads(audit.stdout)["store"]) == (10, "firestore")
    assert (repair.returncode, json.loads(repair.stdout)["code"]) == (1, "bad_input")
    lines = {check["id"]: check for check in json.loads(doctor.stdout)["checks"]}
    assert "no message in the last 48 h" in lines["duplicates"]["evidence"]
