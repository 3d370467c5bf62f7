"""Trials: from the package to a message, and what a reboot changes."""

from __future__ import annotations

import asyncio
import time

from tests.lab.world import INSTALL, NUMBER, World


async def install(world: World) -> None:
    """One command, offline, gives a running service with a tight unit and private files."""
    container = world.container
    await world.copy_in(world.deb, "/root/wad.deb")
    begun = time.monotonic()
    await container.run(f"{INSTALL} /root/wad.deb", timeout=300)
    world.measured("install_time", time.monotonic() - begun, "s", 20)
    assert await container.property("wad", "ActiveState") == "active"
    units = "wad.service wad.socket wad-http.socket"
    complaints = await container.try_run(f"systemd-analyze verify {units} 2>&1")
    assert (complaints.returncode, complaints.stdout) == (0, ""), complaints
    verdict = await container.run("systemd-analyze security --no-pager wad.service | tail -n 2")
    score = float(verdict.split("exposure level for wad.service:")[1].split()[0])
    world.measured("security_score", score, "points", 1.5)
    assert score <= 1.5, verdict
    modes = await container.run(
        "stat -c '%a %U:%G %n' /var/lib/wad /run/wad /run/wad/control.sock /etc/wad/wad.toml"
    )
    assert modes.splitlines() == [
        "700 wad:wad /var/lib/wad",
        "755 wad:wad /run/wad",
        "660 wad:wad /run/wad/control.sock",
        "640 root:wad /etc/wad/wad.toml",
    ], modes
    assert "0 of 0 accounts connected" in await container.property("wad", "StatusText")
    await container.run("curl --silent --fail http://127.0.0.1:8080/health")


async def pair(world: World) -> None:
    """An account is added and paired by a member of the group wad, without root."""
    await world.trust()
    await world.container.run("systemctl restart wad")
    await world.container.run("useradd --create-home --groups wad op")
    world.account = world.server.add_account(NUMBER, name="shop")
    world.bob = world.server.add_peer("15550000011", name="Bob")
    await world.container.run(f"wadctl account add shop --phone +{NUMBER}", user="op")
    pairing = asyncio.create_task(
        world.container.run("wadctl account pair shop", user="op", timeout=60)
    )
    shown = await world.wad.wait_account("shop", lambda shown: shown["qr"], "a QR code")
    await world.shop.phone.scan(shown["qr"])
    await pairing
    await world.connected()


async def receive_and_send(world: World) -> None:
    """What a peer writes is stored, what is sent arrives, and the log holds neither text nor number."""
    await world.peer.send_text(world.shop, "a secret word: xyzzy")
    await world.nothing_lost()
    await world.container.run(
        f"wadctl send shop +{world.peer.pn.user} 'plugh' --wait 30", user="op"
    )
    log = await world.log()
    assert not [word for word in ("xyzzy", "plugh", NUMBER, world.peer.pn.user) if word in log], log
    found = await world.container.run(
        "journalctl --unit=wad --output=json --no-pager | grep -c WAD_ACCOUNT"
    )
    assert int(found) > 0, "no record of the journal has the account's field"


async def own_groups(world: World) -> None:
    """The worker has a control group of its own, and status tells what it uses."""
    shown = await world.wad.account("shop")
    assert shown["worker"]["memory_mb"] > 10, shown["worker"]
    groups = "find /sys/fs/cgroup -path '*wad.service/*' -name cgroup.procs"
    found = await world.container.run(
        f"for group in $({groups}); do echo $group $(cat $group); done"
    )
    rows = {line.split("/")[-2]: line.split()[1:] for line in found.splitlines()}
    assert len(rows[f"worker-{shown['id']}"]) >= 1, rows
    assert str(await world.pid()) in rows["daemon"], rows


async def reboot(world: World) -> None:
    """After a reboot of the machine the account is connected again, without a code."""
    await world.container.reboot()
    await world.peer.send_text(world.shop, "sent while it boots")
    await world.connected()
    await world.nothing_lost()
