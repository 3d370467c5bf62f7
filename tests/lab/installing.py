"""Trials: from the package to a message, and the state after a reboot."""

from __future__ import annotations

import asyncio
import re
import time

from tests.lab.pages import commands
from tests.lab.trial import Begins, trial
from tests.lab.world import NUMBER, OPERATOR, World


@trial(Begins.BARE, spoils=True)
async def install(world: World) -> None:
    """README's commands, offline, result in a running service with a restricted unit and private files."""
    container = world.container
    begun = time.monotonic()
    first, *others = commands("Install")
    assert "apt install" in first
    said = await container.run(first, user=OPERATOR, timeout=300)
    assert "Next: sudo wadctl account add NAME --pair" in said, said
    world.measured("install_time", time.monotonic() - begun, "s", 20)
    for line in others:
        await container.run(line, user=OPERATOR)
    assert await container.property("wad", "ActiveState") == "active"
    modes = await container.run(
        "stat -c '%a %U:%G %n' /var/lib/wad /run/wad /run/wad/control.sock /run/wad/http.sock /etc/wad/wad.toml"
    )
    assert modes.splitlines() == [
        "700 wad:wad /var/lib/wad",
        "755 wad:wad /run/wad",
        "660 wad:wad /run/wad/control.sock",
        "600 wad-http:wad-http /run/wad/http.sock",
        "640 root:wad /etc/wad/wad.toml",
    ], modes
    assert "0 of 0 accounts connected" in await container.property("wad", "StatusText")


@trial(Begins.INSTALLED)
async def unit(world: World) -> None:
    """systemd has no complaints about the units, and little exposure."""
    container = world.container
    complaints = await container.try_run(
        "systemd-analyze verify wad.service wad.socket wad-http.service wad-http.socket wad-http-rpc.socket 2>&1"
    )
    assert (complaints.returncode, complaints.stdout) == (0, ""), complaints
    for name, goal, measure in (
        ("wad.service", 1.6, "security_score"),
        ("wad-http.service", 0.5, "http_security_score"),
    ):
        verdict = await container.run(f"systemd-analyze security --no-pager {name} | tail -n 2")
        score = float(verdict.split(f"exposure level for {name}:")[1].split()[0])
        world.measured(measure, score, "points", goal)
        assert score <= goal, verdict


@trial(Begins.INSTALLED)
async def every_module(world: World) -> None:
    """The package contains all that wad and wadctl import, on this system's Python."""
    walk = (
        "import importlib, pkgutil, wad, wadctl;"
        " [importlib.import_module(found.name) for package in (wad, wadctl)"
        " for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]"
    )
    said = await world.container.try_run(f'/usr/lib/wad/bin/python -I -c "{walk}"')
    assert said.returncode == 0, said


@trial(Begins.INSTALLED)
async def documents(world: World) -> None:
    """Manual pages, shell completions and the dependencies for Firestore are there; man reports nothing."""
    for page in ("8 wad", "1 wadctl", "5 wad.toml"):
        said = await world.container.run(f"man --warnings {page} 2>&1 >/dev/null")
        assert said == "", said
    shown = await world.container.run(
        "cat /usr/share/bash-completion/completions/wadctl /usr/share/zsh/vendor-completions/_wadctl"
        " /usr/share/fish/vendor_completions.d/wadctl.fish /usr/share/doc/wad/README.Debian"
        " /usr/share/doc/wad/copyright"
        " /usr/share/wad/firestore/firestore.rules /usr/share/wad/firestore/firestore.indexes.json"
    )
    assert "_WADCTL_COMPLETE=bash_complete" in shown


@trial(Begins.INSTALLED, spoils=True)
async def pair(world: World) -> None:
    """README's first account: added, paired, inspected and used, without root."""
    await world.trust()
    await world.container.run("systemctl restart wad")
    world.at_whatsapp()
    tried = set()
    for line in commands("The first account"):
        tried.add(line.split()[1])
        if line.startswith("wadctl account pair "):
            await _pair(world, line)
        elif line.endswith("--follow"):
            shown = await world.container.try_run(f"timeout 3 {line}", user=OPERATOR)
            assert shown.returncode == 124, shown  # it would have continued
        else:
            await world.container.run(line, user=OPERATOR)
    assert tried >= {"account", "status", "send", "messages", "events"}, tried
    await world.connected()


async def _pair(world: World, line: str) -> None:
    pairing = asyncio.create_task(world.container.run(line, user=OPERATOR, timeout=60))
    shown = await world.wad.wait_account("shop", lambda shown: shown["qr"], "a QR code")
    await world.shop.phone.scan(shown["qr"])
    await pairing
    await world.connected()


@trial()
async def receive_and_send(world: World) -> None:
    """A peer's message is stored before its receipt, a sent one arrives, the log contains neither text nor number."""
    await world.restart()
    receipts = (await world.wad.account("shop"))["worker"]["receipts"]
    assert receipts == "after-store", receipts
    await world.peer.send_text(world.shop, "a secret word: xyzzy")
    await world.nothing_lost()
    await world.container.run(
        f"wadctl send shop +{world.peer.pn.user} 'plugh' --wait 30", user=OPERATOR
    )
    log = await world.log()
    assert not [word for word in ("xyzzy", "plugh", NUMBER, world.peer.pn.user) if word in log], log
    found = await world.container.run(
        "journalctl --unit=wad --output=json --no-pager | grep -c WAD_ACCOUNT"
    )
    assert int(found) > 0, "no record of the journal has the account's field"


@trial()
async def own_groups(world: World) -> None:
    """The worker has its own control group, with the limits that the machine supports, and status shows its use."""
    async with asyncio.timeout(30):  # the worker may just have been replaced
        while not ((await world.wad.account("shop"))["worker"] or {}).get("memory_mb"):
            await asyncio.sleep(0.1)
    shown = await world.wad.account("shop")
    assert shown["worker"]["memory_mb"] > 10, shown["worker"]
    groups = "find /sys/fs/cgroup -path '*wad.service/*' -name cgroup.procs"
    found = await world.container.run(
        f"for group in $({groups}); do echo $group $(cat $group); done"
    )
    rows = {line.split("/")[-2]: line.split()[1:] for line in found.splitlines()}
    assert len(rows[f"worker-{shown['id']}"]) >= 1, rows
    assert str(await world.pid()) in rows["daemon"], rows
    base = "/sys/fs/cgroup/system.slice/wad.service"
    offered = (await world.container.run(f"cat {base}/cgroup.controllers")).split()
    wanted = {"memory": ("memory.max", str(1024 << 20)), "pids": ("pids.max", "512")}
    for controller, (name, limit) in wanted.items():
        if controller in offered:  # controllers of version 1 are missing
            found = await world.container.run(f"cat {base}/worker-{shown['id']}/{name}")
            assert found.strip() == limit, (name, found)
    missing = [controller for controller in wanted if controller not in offered]
    limits = (await world.wad.call("status"))["limits"]
    assert limits["memory_mb"] == (None if "memory" in missing else 1024), limits
    assert limits["tasks"] == (None if "pids" in missing else 512), limits
    assert all(controller in limits["reason"] for controller in missing), limits
    assert bool(limits["reason"]) == bool(missing), limits
    said = await world.container.run("wadctl status", user=OPERATOR)
    assert limits["reason"] in said, said
    assert re.search(r"connected .* [\d.]+ MB +[\d.]+ s ", said), said


@trial()
async def reboot(world: World) -> None:
    """After a reboot of the machine the account is connected again, without a code."""
    await world.container.reboot()
    await world.peer.send_text(world.shop, "sent while it boots")
    await world.connected()
    await world.nothing_lost()
