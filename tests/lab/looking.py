"""Trials of inspection: the doctor finds nothing wrong with a healthy installation, and restarts lose nothing."""

from __future__ import annotations

import json

from tests.lab.trial import trial
from tests.lab.world import World

_OF_THE_LAB = {"firestore": "SKIPPED", "sessions_persistent": "WARN"}
"""Its store is SQLite, and its disk a container's temporary layer."""


@trial()
async def doctor(world: World) -> None:
    """Every line passes, with systemd, socket activation and a restart; the report contains no phone number."""
    found = await world.container.run("wadctl doctor --restart --json || test $? = 10")
    report = json.loads(found)
    checks = {check["id"]: check for check in report["checks"]}
    limits = (await world.wad.call("status"))["limits"]
    expected = _OF_THE_LAB | {"limits": "WARN" if limits["reason"] else "PASS"}
    wrong = {
        ident: (check["outcome"], check["evidence"])
        for ident, check in checks.items()
        if check["outcome"] != expected.get(ident, "PASS")
    }
    assert not wrong, wrong
    assert world.shop.pn.user not in found


@trial()
async def verify(world: World) -> None:
    """Two restarts, a message between, audits around."""
    to = f"+{world.peer.pn.user}"
    found = await world.container.run(f"wadctl verify --to {to} --json")
    report = json.loads(found)
    assert report["verdict"] is True, report
    assert report["restarts"] == 2, report
