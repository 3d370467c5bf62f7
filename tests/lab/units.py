"""Trials of the units together: mistakes, restarts in any order, what is stopped and what is not."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Final

from tests.lab.operating import commands_of
from tests.lab.probing import Probes
from tests.lab.trial import trial
from tests.lab.world import OPERATOR, World

UNITS: Final = (
    "wad.service",
    "wad.socket",
    "wad-http-rpc.socket",
    "wad-http.socket",
    "wad-http.service",
)
_MISTAKE: Final = '# two lines\n\n[http]\nport = "many"\n'
_AT: Final = "/etc/wad/wad.toml:4: http.port must be a whole number"


async def states(world: World) -> dict[str, str]:
    """The state of each unit."""
    return {unit: await world.container.property(unit, "ActiveState") for unit in UNITS}


async def starts(world: World) -> int:
    """The number of processes that systemd has started."""
    return (await world.log()).count("Starting wad.service")


async def nobody_is_deaf(world: World) -> None:
    """Control socket and HTTP answer, all units are there, the account is connected."""
    await world.container.run("timeout 20 wadctl version | grep pid", user=OPERATOR)
    await world.container.run("curl --silent --fail --max-time 20 http://127.0.0.1:8080/health")
    await world.connected()
    assert set((await states(world)).values()) == {"active"}, await states(world)


@trial()
async def mistake_under_probes(world: World) -> None:
    """An error in the configuration fails service and sockets at once; clients get the error; a restart repairs it."""
    container, file = world.container, "/etc/wad/wad.toml"
    before = container.path(file).read_text()
    await world.write(file, _MISTAKE)
    known = await starts(world)
    async with Probes("127.0.0.1", 8080, per_second=20) as probes:
        await container.try_run("systemctl restart wad.service")
        await container.until(
            "systemctl is-failed wad.service wad.socket wad-http-rpc.socket", "them to fail", 20
        )
        so_far = len(probes.errors) + probes.answered
        while len(probes.errors) + probes.answered < so_far + 60:  # three seconds of probes
            await container.run("sleep 0.2")
    answer = await container.run(
        "curl --silent --max-time 3 --include http://127.0.0.1:8080/health"
    )
    assert " 503 " in answer.splitlines()[0], answer
    assert await starts(world) - known <= 2, await world.log("--lines=40")
    for command in ("wadctl status", "wadctl restart"):
        asked = await container.try_run(f"timeout 10 {command}", user=OPERATOR)
        assert asked.returncode == 3, asked
        assert f"wad does not start: {_AT}" in asked.stderr, asked
    shown = await container.try_run("wadctl restart --json", user=OPERATOR)
    assert json.loads(shown.stdout)["error"]["code"] == "start_failed", shown
    named = await container.try_run("wadctl doctor --json")
    service = next(each for each in json.loads(named.stdout)["checks"] if each["id"] == "service")
    assert (service["outcome"], _AT in service["evidence"]) == ("FAIL", True), service
    await world.write(file, before)
    await container.run(service["fix"][-1])
    await nobody_is_deaf(world)


@trial()
async def mistake_of_the_unit(world: World) -> None:
    """So does an error in the unit's command line."""
    container = world.container
    await world.drop_in("typo", "ExecStart=", "ExecStart=/usr/bin/wad run --no-such-option")
    await container.try_run("systemctl restart wad.service")
    await container.until("systemctl is-failed wad.service wad.socket", "them to fail", 20)
    asked = await container.try_run("timeout 10 wadctl status", user=OPERATOR)
    assert asked.returncode == 3, asked
    assert "--no-such-option" in asked.stderr, asked
    await world.no_drop_in("typo")
    await container.run("systemctl restart wad")
    await nobody_is_deaf(world)


@trial(spoils=True)
async def what_can_heal(world: World) -> None:
    """A state that cannot be written is retried, with growing pauses; wadctl shows the reason meanwhile."""
    container = world.container
    await container.run("systemctl stop wad.service 2>/dev/null")
    await container.run(
        "mount --bind /var/lib/wad /var/lib/wad && mount -o remount,ro,bind /var/lib/wad"
    )
    async with Probes("127.0.0.1", 8080, per_second=5):  # connections that systemd accepts
        await container.try_run("systemctl start --no-block wad")
        await container.until(
            "journalctl --unit=wad --lines=50 --no-pager | grep 'next try in 4 s'", "longer pauses"
        )
        assert await container.property("wad.socket", "ActiveState") == "active"
        asked = await container.try_run("timeout 10 wadctl status", user=OPERATOR)
        assert asked.returncode == 3, asked
        assert "wad cannot start: " in asked.stderr, asked
        assert "ead-only file system" in asked.stderr, asked
        await container.run("umount /var/lib/wad")
        await world.connected()
    await world.nothing_lost()
    await nobody_is_deaf(world)


@trial(spoils=True)
async def restarts_in_any_order(world: World) -> None:
    """Whichever units are restarted, one, some or all, in any order: afterwards every request is answered."""
    container = world.container
    for units in [*permutations(UNITS, 1), *permutations(UNITS, 2), UNITS, UNITS[::-1]]:
        done = await container.try_run(f"systemctl restart {' '.join(units)}")
        assert done.returncode == 0, (units, done)
        await nobody_is_deaf(world)
    together = " & ".join(f"systemctl restart {unit}" for unit in UNITS)
    await container.run(f"{together} & wait")
    await nobody_is_deaf(world)


@trial()
async def socket_taken_away(world: World) -> None:
    """If the control socket's file is missing, wadctl and the doctor name the fix, and it works."""
    container = world.container
    await container.run("rm /run/wad/control.sock")
    asked = await container.try_run("timeout 10 wadctl status", user=OPERATOR)
    assert asked.returncode == 3, asked
    assert "/run/wad/control.sock is gone" in asked.stderr, asked
    named = await container.try_run("wadctl doctor --json")
    checks = {each["id"]: each for each in json.loads(named.stdout)["checks"]}
    assert checks["daemon"]["outcome"] == "FAIL", checks["daemon"]
    assert not [
        line for check in checks.values() for line in check["fix"] if line.startswith("kill")
    ]
    await container.run(checks["daemon"]["fix"][0])
    await nobody_is_deaf(world)


@trial()
async def stopped_for_good(world: World) -> None:
    """The page's hand-over to another backend is not undone by a probe; the way back starts everything again."""
    (mask, *_), (*again,) = (
        commands_of("hand over to another backend"),
        commands_of("start wad again after that"),
    )
    await world.container.run(mask)
    refused = await world.container.try_run("curl --silent http://127.0.0.1:8080/health")
    assert refused.returncode == 7, refused
    asked = await world.container.try_run("timeout 10 wadctl status", user=OPERATOR)
    assert (asked.returncode, "wad.service is masked" in asked.stderr) == (3, True), asked
    assert await world.container.property("wad.service", "ActiveState") == "inactive"
    for line in again:
        await world.container.run(line)
    await nobody_is_deaf(world)
