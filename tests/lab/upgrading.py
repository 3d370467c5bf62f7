"""Trials: what an upgrade restarts and leaves alone, and an earlier package, in which the daemon served HTTP."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.lab.machines import pair
from tests.lab.probing import Probes
from tests.lab.trial import Begins, trial
from tests.lab.units import nobody_is_deaf, states
from tests.lab.world import INSTALL, OPERATOR, World

BEFORE: Final = "ff70fbc"
"""The last commit in which the daemon served HTTP itself; its databases have an earlier format."""
_NEWER: Final = f"{INSTALL} /root/newer.deb"
_AGAIN: Final = f"{INSTALL} --allow-downgrades /root/wad.deb"
_BEFORE: Final = f"{INSTALL} --allow-downgrades /root/before.deb"
_REFUSED: Final = "was written by a newer wad"
_STOPPED: Final = {
    "all": ("systemctl stop wad.socket wad-http.socket wad", "systemctl start wad"),
    "the service": ("systemctl stop wad.service", "systemctl start wad"),
    "masked": (
        "systemctl mask --now wad.socket wad-http.socket wad",
        "systemctl unmask wad.socket wad-http.socket wad; systemctl start wad",
    ),
    "disabled": (
        "systemctl disable --now wad.socket wad-http.socket wad",
        "systemctl enable --now wad.socket wad-http.socket wad",
    ),
}


@trial(spoils=True)
async def stopped_stays_stopped(world: World) -> None:
    """An upgrade and a downgrade start nothing that was stopped, masked or disabled, and change none of that."""
    await world.copy_in(world.newer, "/root/newer.deb")
    wrong = []
    for name, (stop, start) in _STOPPED.items():
        await world.container.run(f"{stop} 2>/dev/null")
        for install in (_NEWER, _AGAIN):
            before = await _standing(world)
            await world.container.run(install, timeout=300)
            if (after := await _standing(world)) != before:
                wrong.append((name, install, before, after))
        await world.container.run(f"{start} 2>/dev/null")
        await nobody_is_deaf(world)
    assert not wrong, wrong


async def _standing(world: World) -> dict[str, tuple[str, str]]:
    """Of each unit whether it runs, and whether it is enabled."""
    found = {}
    for unit, state in (await states(world)).items():
        enabled = await world.container.try_run(f"systemctl is-enabled {unit}")
        found[unit] = (state, enabled.stdout.strip())
    return found


@trial(Begins.BARE, spoils=True)
async def package_of_before(world: World) -> None:
    """An upgrade from the earlier package fails no probe and loses nothing.

    The way back is refused, since that wad cannot read the databases any more, and the installed one goes on.
    """
    assert world.packages.before is not None
    await world.copy_in(world.packages.before, "/root/before.deb")
    await world.container.run(_BEFORE, timeout=300)
    await world.container.run(f"adduser {OPERATOR} wad")
    await pair(world)
    for install in (_AGAIN, _BEFORE, _AGAIN):
        async with Probes("127.0.0.1", 8080, per_second=20) as probes:
            done = await world.container.try_run(install, timeout=300)
            assert (install is _BEFORE) == (done.returncode != 0), done
            assert (install is _BEFORE) == (_REFUSED in done.stdout + done.stderr), done
            await world.peer.send_text(world.shop, "sent about an upgrade")
            await world.connected()
            answered = probes.answered
            async with asyncio.timeout(60):
                while probes.answered < answered + 40:
                    await asyncio.sleep(0.2)
        assert not probes.errors, (install, probes.errors[:5], len(probes.errors))
        await world.nothing_lost()
    await nobody_is_deaf(world)


@trial(spoils=True)
async def drop_ins_of_http(world: World) -> None:
    """PORT on wad.service, and ListenStream= on wad-http.socket, keep their meaning."""
    container = world.container
    await world.drop_in("port", "Environment=PORT=9191")
    await container.run("systemctl restart wad")
    await container.until("curl --silent --fail http://127.0.0.1:9191/health", "the other port")
    await nobody_is_deaf(world)
    await container.run("systemctl restart wad-http.socket")
    await container.until("curl --silent --fail http://127.0.0.1:9191/health", "it after that")
    await nobody_is_deaf(world)
    await world.no_drop_in("port")
    await container.run("systemctl restart wad")
    await container.until("! curl --silent http://127.0.0.1:9191/health", "it to be closed")
    await nobody_is_deaf(world)
    directory = "/etc/systemd/system/wad-http.socket.d"
    await world.write(
        f"{directory}/override.conf", "[Socket]\nListenStream=\nListenStream=127.0.0.1:9292\n"
    )
    await container.run("systemctl daemon-reload; systemctl restart wad-http.socket")
    await container.run("curl --silent --fail http://127.0.0.1:9292/health")
    refused = await container.try_run("curl --silent http://127.0.0.1:8080/health")
    assert refused.returncode == 7, refused
    await container.run(
        f"rm -r {directory}; systemctl daemon-reload; systemctl restart wad-http.socket"
    )
    await nobody_is_deaf(world)


@trial(Begins.INSTALLED, spoils=True)
async def a_changed_configuration(world: World) -> None:
    """The file is small; no upgrade asks about it or changes it, also one from a package that shipped it."""
    assert world.packages.before is not None
    container, file = world.container, "/etc/wad/wad.toml"
    assert len((await container.run(f"cat {file}")).splitlines()) <= 5
    assert "#port = 8080" in await container.run("cat /usr/share/doc/wad/examples/wad.toml")
    await world.copy_in(world.packages.before, "/root/before.deb")
    await world.copy_in(world.newer, "/root/newer.deb")
    refused = await container.try_run(_BEFORE, timeout=300)
    if (
        refused.returncode
    ):  # its preinst refuses a newer state; what was taken away for it is there again
        assert "was written by a newer wad" in refused.stderr + refused.stdout
        assert len((await container.run(f"cat {file}")).splitlines()) <= 5
    await container.run(
        "apt-get purge --yes --quiet wad && rm -rf /var/lib/wad.purged-*", timeout=300
    )
    await container.run(_BEFORE, timeout=300)
    for install in (_AGAIN, _NEWER):
        changed = (await container.run(f"cat {file}")) + "# changed\n"
        await world.write(file, changed)
        await container.run(f"{install} </dev/null", timeout=300)
        assert await container.run(f"cat {file}") == changed
        assert (await container.run(f"ls {file}*")).split() == [file]


@trial(Begins.INSTALLED, spoils=True)
async def removed_and_installed(world: World) -> None:
    """After a removal another installation starts all again, as a first one does."""
    await world.container.run("apt-get remove --yes --quiet wad", timeout=300)
    assert set((await states(world)).values()) <= {"inactive", "failed"}, await states(world)
    await world.container.run(f"{INSTALL} /root/wad.deb", timeout=300)
    await world.container.run("curl --silent --fail --max-time 20 http://127.0.0.1:8080/health")
    await world.container.run("timeout 20 wadctl version | grep pid")
