"""Trials: a compromised worker, under the real unit, on this machine's kernel and one like Debian 12's."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from typing import Any

from tests.hostile import site
from tests.hostile.attempts import Targets
from tests.lab.trial import trial
from tests.lab.world import TRUST, World

_STATE = "/var/lib/wad"
_DEBIAN_12 = 2  # the ABI of its Landlock
_WATCHDOG = 30.0  # seconds, as the unit says


async def _sibling(world: World) -> dict[str, Any]:
    """Another account, whose worker runs for pairing."""
    await world.container.run("wadctl account add sibling --phone +15550000009")
    pairing = asyncio.create_task(
        world.container.try_run("timeout 300 wadctl account pair sibling")
    )
    shown: dict[str, Any] = await world.wad.wait_account(
        "sibling", lambda shown: shown["qr"], "a QR code"
    )
    pairing.cancel()
    return shown


async def _targets(world: World, sibling: dict[str, Any]) -> Targets:
    shop = await world.wad.account("shop")
    proxy = int(world.server.environment()["HTTPS_PROXY"].rpartition(":")[2])
    await world.container.run(
        f"echo victim > {_STATE}/victim && chown wad: {_STATE}/victim"
        f" && echo picture > {_STATE}/media/{'0' * 64} && chown wad: {_STATE}/media/*"
    )
    return Targets(
        account_dir=f"{_STATE}/sessions/{shop['id']}", other=f"{_STATE}/sessions/{sibling['id']}",
        state=_STATE, media=f"{_STATE}/media", victim=f"{_STATE}/victim",
        daemon=await world.pid(), sibling=sibling["worker"]["pid"],
        control="/run/wad/control.sock", notify="/run/systemd/notify",
        group=f"/sys/fs/cgroup/system.slice/wad.service/worker-{sibling['id']}",
        allowed_port=proxy, refused_port=8080,
    )  # fmt: skip


async def _taken_over(world: World, targets: Targets, abi: int) -> list[dict[str, str]]:
    """The results of all attempts of the account's worker, after it was confined."""
    shop = await world.wad.account("shop")
    directory = world.container.path(f"{TRUST}/site")
    found = site.files(shop["id"], targets, abi, (directory / "sitecustomize.py").read_text())
    for name, text in found.items():
        (directory / name).write_text(text)
    await world.container.run(f"chmod -R a+rX {TRUST} && rm -f {targets.account_dir}/{site.TRIED}")
    await world.container.run("wadctl account stop shop && wadctl account start shop")
    await world.container.until(
        f"test -s {targets.account_dir}/{site.TRIED}", "the worker's attempts"
    )
    await world.connected()
    tried: list[dict[str, str]] = json.loads(
        world.container.path(f"{targets.account_dir}/{site.TRIED}").read_text()
    )
    return tried


@trial(spoils=True)
async def worker_taken_over(world: World) -> None:
    """It reaches only its own account, and works on; status and doctor show its confinement."""
    sibling = await _sibling(world)
    targets = await _targets(world, sibling)
    for abi in (1000, _DEBIAN_12):
        tried, needed = await _taken_over(world, targets, abi)
        assert {name: why for name, why in needed.items() if why} == {}, needed
        possible = {name for name, why in tried.items() if not why}
        shown = (await world.wad.account("shop"))["worker"]["confinement"]
        assert possible == ({"connect to another port"} if shown["landlock"] < 4 else set()), tried
        assert (shown["seccomp"], shown["missing"]) == (True, ""), shown
        assert shown["summary"] in await world.container.run("wadctl status")
    after = await world.wad.account("sibling")
    assert after["worker"]["pid"] == sibling["worker"]["pid"], "it ended another worker"
    assert await world.pid() == targets.daemon, "it ended the daemon"
    assert (await world.container.run(f"cat {targets.victim}")) == "victim\n"
    await world.container.run(
        "runuser -u wad -- wadctl status"
    )  # of the daemon's user, and not a worker
    doctor = await world.container.try_run("wadctl doctor --json")
    found = {each["id"]: each for each in json.loads(doctor.stdout)["checks"]}
    assert found["confinement"]["outcome"] == "PASS", found["confinement"]
    assert "seccomp" in found["confinement"]["evidence"]
    await world.peer.send_text(world.shop, "a worker that was taken over receives")
    await world.nothing_lost()


@trial(spoils=True)
async def worker_writes_what_does_not_end(world: World) -> None:
    """A session and a spool of views affect only their account: the daemon answers, and is not restarted."""
    shop = await world.wad.account("shop")
    account_dir, pid = f"{_STATE}/sessions/{shop['id']}", await world.pid()
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0"
    script = (
        "import sqlite3, sys\n"
        "for name, table, columns in (('session.db', 'whatsmeow_device', 'jid, lid, push_name'),\n"
        "                             ('spool.db', 'events', 'seq, received_ms, kind, wa_id, raw, event, reason')):\n"
        "    db = sqlite3.connect(f'{sys.argv[1]}/{name}', isolation_level=None, timeout=30)\n"
        "    db.execute(f'ALTER TABLE {table} RENAME TO was_{table}')\n"
        "    same = ', '.join('x' for _ in columns.split(','))\n"
        f"    db.execute(f'CREATE VIEW {{table}} ({{columns}}) AS SELECT {{same}} FROM ({endless})')\n"
    )
    await world.write("/opt/spoil.py", script)
    await world.container.run(
        f"runuser -u wad -- /usr/lib/wad/bin/python /opt/spoil.py {account_dir}", timeout=60
    )
    begun = time.monotonic()
    while time.monotonic() - begun < 1.5 * _WATCHDOG:
        await world.peer.send_text(world.shop, "somebody writes meanwhile")
        asked = time.monotonic()
        await world.wad.call("status")
        assert time.monotonic() - asked < 5, "the daemon does not answer"
        await asyncio.sleep(1)
    assert await world.pid() == pid, "the daemon was restarted"
    assert await world.container.property("wad", "NRestarts") == "0"
    assert (await world.wad.account("shop"))["state"] != "connected"


@trial()
async def name_servers_replaced(world: World) -> None:
    """A new list of name servers is renamed into place: the worker is replaced, and can read it."""
    before = (await world.wad.account("shop"))["worker"]["pid"]
    kept = await world.container.try_run("cat /etc/resolv.conf")
    await world.container.run(
        "echo 'nameserver 192.0.2.53' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf"
    )
    await world.wad.wait_account(
        "shop",
        lambda shown: shown["state"] == "connected" and shown["worker"]["pid"] != before,
        "replacing the worker",
    )
    await world.peer.send_text(world.shop, "sent to the fresh one")
    await world.nothing_lost()
    undo = "rm /etc/resolv.conf" if kept.returncode else "cat > /etc/resolv.conf"
    await world.container.run(f"printf %s {shlex.quote(kept.stdout)} | {undo}")
    await world.connected()
