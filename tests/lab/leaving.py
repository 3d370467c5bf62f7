"""Trials: upgrade, downgrade, remove, purge, and a second installation."""

from __future__ import annotations

import asyncio

from tests.lab.probing import Probes
from tests.lab.trial import trial
from tests.lab.world import INSTALL, World


@trial(spoils=True)
async def upgrade_under_load(world: World) -> None:
    """An upgrade while messages arrive keeps the session and every message, and no probe is refused."""
    await world.copy_in(world.newer, "/root/newer.deb")
    before = await world.container.property("wad", "InvocationID")

    async def write() -> None:
        for number in range(60):
            await world.peer.send_text(world.shop, f"during the upgrade, {number}")
            await asyncio.sleep(0.1)

    async with Probes("127.0.0.1", 8080, per_second=20) as probes, asyncio.TaskGroup() as group:
        group.create_task(write())
        await world.container.run(f"{INSTALL} /root/newer.deb", timeout=300)
    assert not probes.errors, probes.errors
    assert probes.answered > 0
    assert await world.container.property("wad", "InvocationID") != before
    await world.connected()
    await world.nothing_lost()


@trial(spoils=True)
async def downgrade(world: World) -> None:
    """An older version is accepted while it can read the state, and refused before anything changes when it cannot."""
    await world.copy_in(world.newer, "/root/newer.deb")
    await world.container.run(f"{INSTALL} /root/newer.deb", timeout=300)
    await world.connected()
    await world.container.run(f"{INSTALL} --allow-downgrades /root/wad.deb", timeout=300)
    await world.connected()
    await world.container.run(f"{INSTALL} /root/newer.deb", timeout=300)
    await world.connected()
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    known = _set_schema(world, 99)
    refused = await world.container.try_run(
        f"{INSTALL} --allow-downgrades /root/wad.deb", timeout=300
    )
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr  # which one depends on dpkg's version
    assert "was written by a newer wad (schema 99, this version knows" in said, refused
    shown = await world.container.run("dpkg-query -W -f '${db:Status-Abbrev}|${Version}' wad")
    status, _, version = shown.partition("|")
    assert (status.strip(), version.endswith("+next")) == ("ii", True), shown
    _set_schema(world, known)
    await world.container.run("systemctl start wad")
    await world.connected()


def _set_schema(world: World, number: int) -> int:
    """Set the schema number of the store, which is not open; the one before."""
    with world.container.path("/var/lib/wad/wad.db").open("r+b") as file:
        file.seek(60)  # `user_version` in SQLite's header
        before = int.from_bytes(file.read(4), "big")
        file.seek(60)
        file.write(number.to_bytes(4, "big"))
        return before


@trial(spoils=True)
async def remove(world: World) -> None:
    """Removal ends the service and keeps state and configuration."""
    await world.container.run("apt-get remove --yes --quiet wad", timeout=300)
    await world.container.run("test -e /var/lib/wad/wad.db && test -e /etc/wad/wad.toml")
    left = await world.container.run("ls /usr/lib/wad 2>&1 || true")
    assert "No such file" in left, left
    await world.container.run(f"{INSTALL} /root/wad.deb", timeout=300)
    await world.connected()
    await world.nothing_lost()


async def _purged(world: World) -> str:
    """Purge it, and remove what the lab wrote; returns the new path of the state."""
    said = await world.container.run("apt-get purge --yes --quiet wad 2>&1", timeout=300)
    await world.container.run("rm -r /etc/systemd/system/wad.service.d")
    backup = next(word for word in said.split() if word.startswith("/var/lib/wad.purged-"))
    return backup.rstrip(";")


@trial(spoils=True)
async def purge(world: World) -> None:
    """Purging asks nothing, renames the state and reports the new name, and leaves nothing else."""
    user = (await world.container.run("id -u wad")).strip()
    backup = await _purged(world)
    await world.container.run(f"test -e {backup}/wad.db")
    mode = await world.container.run(f"stat -c '%a %U' {backup}")
    assert mode.strip() == "700 root", mode
    left = await world.container.run(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /root -o -path /var/log -o -path /var/lib/dpkg"
        " -o -path /opt -o -path /var/cache -o -path '/var/lib/wad.purged-*' \\) -prune -o"
        f" \\( -name 'wad' -o -name 'wad[.-]*' -o -name 'wadctl*' -o -user {user} \\) -print"
    )
    assert left.strip() == "", left
    assert (await world.container.try_run("getent passwd wad; getent group wad")).stdout == ""


@trial(spoils=True)
async def install_again(world: World) -> None:
    """A second installation starts from nothing, and a restored backup is used."""
    backup = await _purged(world)
    await world.container.run(f"{INSTALL} /root/wad.deb", timeout=300)
    assert await world.container.property("wad", "ActiveState") == "active"
    assert (await world.wad.call("status"))["accounts"] == []
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    await world.container.run(
        f"rm -r /var/lib/wad && mv {backup} /var/lib/wad && chown -hR wad:wad /var/lib/wad"
    )
    await world.trust()
    await world.container.run("systemctl start wad")
    await world.connected()
    await world.nothing_lost()


@trial(spoils=True)
async def purge_of_a_volume(world: World) -> None:
    """State on a separate volume cannot be renamed: it stays there, purging reports that, and nothing is lost."""
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    await world.container.run(
        "mv /var/lib/wad /var/lib/kept && mkdir /var/lib/wad && mount -t tmpfs volume /var/lib/wad"
        " && cp -a /var/lib/kept/. /var/lib/wad/ && rm -r /var/lib/kept"
    )
    said = await world.container.run("apt-get purge --yes --quiet wad 2>&1", timeout=300)
    assert "are kept in /var/lib/wad;" in said, said
    assert (await world.container.run("stat -c '%a %U' /var/lib/wad")).strip() == "700 root"
    await world.container.run(f"{INSTALL} /root/wad.deb", timeout=300)
    await world.connected()
    await world.nothing_lost()
