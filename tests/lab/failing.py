"""Trials: processes that hang or die, and starts and stops."""

from __future__ import annotations

import json
import time
from typing import Final

from tests.lab.operating import commands_of
from tests.lab.probing import DROPPED, Probes
from tests.lab.trial import trial
from tests.lab.world import OPERATOR, World

_MANY: Final = 100
"""Restarts during which there must have been 200 probes, however fast the machine restarts."""


@trial(spoils=True)
async def watchdog(world: World) -> None:
    """A daemon that hangs is replaced by systemd."""
    await world.drop_in("watchdog", "WatchdogSec=5")
    await world.container.run("systemctl restart wad")
    await world.connected()
    pid = await world.pid()
    await world.container.run(f"kill -STOP {pid}")
    await world.peer.send_text(world.shop, "sent while it hangs")
    await world.container.until(
        f'p=$(systemctl show -P MainPID wad); [ "$p" != {pid} ] && [ "$p" != 0 ]', "another process"
    )
    await world.connected()
    assert int(await world.container.property("wad", "NRestarts")) >= 1
    assert "Watchdog timeout" in await world.log()
    await world.nothing_lost()


@trial()
async def killed(world: World) -> None:
    """kill -9 of the daemon: systemd starts it again, nothing is lost."""
    pid = await world.pid()
    await world.container.run(f"kill -9 {pid}")
    await world.peer.send_text(world.shop, "sent while it is dead")
    await world.container.until(f'[ "$(systemctl show -P MainPID wad)" != {pid} ]', "another")
    await world.connected()
    await world.nothing_lost()


@trial()
async def worker_killed(world: World) -> None:
    """kill -9 of a worker: the daemon stays, the account recovers."""
    pid, worker = await world.pid(), (await world.wad.account("shop"))["worker"]["pid"]
    await world.container.run(f"kill -9 {worker}")
    await world.peer.send_text(world.shop, "sent while no worker is there")
    await world.wad.wait_account(
        "shop", lambda shown: (shown["worker"] or {}).get("pid") not in (None, worker), "a worker"
    )
    await world.connected()
    await world.nothing_lost()
    assert await world.pid() == pid


@trial()
async def stop_and_start(world: World) -> None:
    """A graceful stop ends in order, well before systemd's timeout; the start is quick."""
    begun = time.monotonic()
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    world.measured("stop_time", time.monotonic() - begun, "s", 5)
    assert await world.container.property("wad", "Result") == "success"
    begun = time.monotonic()
    await world.container.run("systemctl start wad")
    world.measured("start_to_active", time.monotonic() - begun, "s", 2)
    await world.connected()
    world.measured("start_to_connected", time.monotonic() - begun, "s", 5)


@trial()
async def restarts(world: World) -> None:
    """Ten restarts by a member of the group, without root: no probe from outside fails, no wadctl is refused."""
    plain, for_scripts = commands_of("restart and check that it worked")
    await world.container.run(plain, user=OPERATOR)
    async with Probes("127.0.0.1", 8080, per_second=20) as probes:
        for number in range(_MANY):
            shown = await world.container.run(for_scripts, user=OPERATOR)
            answer = json.loads(shown)
            assert answer["ok"] is True, answer
            assert answer["before"] != answer["after"], answer
            assert answer["after"] == await world.container.property("wad", "InvocationID"), answer
            assert answer["accountsBefore"] == answer["accountsAfter"] == 1, answer
            if number >= 9 and probes.answered > 200:
                break
    world.measured("probe_errors", len(probes.errors), "errors", 0)
    assert not probes.errors, probes.errors[:5]
    assert probes.answered > 200, probes.answered
    await world.connected()


@trial()
async def http_replaced(world: World) -> None:
    """No probe fails during ten restarts of wad-http; ten kills lose only the requests under way and refuse none."""
    container = world.container
    async with Probes("127.0.0.1", 8080, per_second=20) as probes:
        await probes.more(20)
        for _ in range(10):
            await container.run("systemctl restart wad-http.service")
            await probes.more(10)
    world.measured("http_restart_errors", len(probes.errors), "errors", 0)
    assert not probes.errors, probes.errors[:5]
    async with Probes("127.0.0.1", 8080, per_second=20) as probes:
        for _ in range(10):
            pid = await container.property("wad-http", "MainPID")
            await container.run(f"kill -9 {pid}")
            await container.until(
                f'p=$(systemctl show -P MainPID wad-http); [ "$p" != {pid} ] && [ "$p" != 0 ]',
                "another process",
            )
            await probes.more(20)
    lost = [error for error in probes.errors if DROPPED in error or "ConnectionReset" in error]
    assert lost == probes.errors, probes.errors
    world.measured("http_kill_refused", len(probes.errors) - len(lost), "errors", 0)
    assert len(lost) <= 20, lost  # of the one or two that were under way at each kill
    await world.connected()


@trial()
async def without_sockets(world: World) -> None:
    """It works without the socket units, too: then it listens by itself."""
    for line in commands_of("work without the sockets"):
        await world.container.run(line)
    await world.connected()
    for unit in ("wad.socket", "wad-http.socket"):
        assert await world.container.property(unit, "ActiveState") == "inactive"
    await world.container.run("curl --silent --fail http://127.0.0.1:8080/health")
    await world.container.run("wadctl status", user=OPERATOR)
    for line in commands_of("use the sockets again"):
        await world.container.run(line)
    await world.connected()
    assert await world.container.property("wad.socket", "ActiveState") == "active"


@trial()
async def another_address(world: World) -> None:
    """The HTTP port is moved by lines of a drop-in of its socket."""
    edit, *lines, restart = commands_of("another HTTP address")
    await world.edit(edit, *lines)
    await world.container.run(restart)
    await world.connected()
    await world.container.run("curl --silent --fail http://127.0.0.1:9090/health")
    assert (await world.container.try_run("curl --silent http://127.0.0.1:8080/")).returncode == 7
    await world.container.run(f"systemctl revert wad-http.socket && {restart}")
    await world.connected()
    await world.container.run("curl --silent --fail http://127.0.0.1:8080/health")


@trial()
async def port_taken(world: World) -> None:
    """While another program has the HTTP port all else works; another port, or a restart of the socket, repairs it."""
    container, place = world.container, "/etc/systemd/system/wad-http.socket.d"
    other = "python3 -m http.server 8080 --bind 127.0.0.1"
    again = "systemctl daemon-reload; systemctl restart wad-http.socket"
    await container.run("systemctl stop wad-http.socket wad.service 2>/dev/null")
    await container.run(f"systemd-run --quiet --unit=other {other}")
    await container.until("curl --silent http://127.0.0.1:8080/", "the other program")
    await container.run("systemctl start wad.service")
    await world.connected()
    said = await container.run("journalctl --unit=wad-http.socket --lines=20 --no-pager")
    assert "127.0.0.1:8080): Address already in use" in said, said
    named = await container.try_run("wadctl doctor --json")
    port = next(each for each in json.loads(named.stdout)["checks"] if each["id"] == "port")
    assert (port["outcome"], "held by python3" in port["evidence"]) == ("FAIL", True), port
    await world.write(
        f"{place}/port.conf", "[Socket]\nListenStream=\nListenStream=127.0.0.1:8081\n"
    )
    await container.run(again)
    await container.run("curl --silent --fail --max-time 20 http://127.0.0.1:8081/health")
    await container.run(f"rm -r {place}; systemctl stop other; {again}")
    await container.run("curl --silent --fail --max-time 20 http://127.0.0.1:8080/health")
    await world.connected()


@trial()
async def restart_of_one(world: World) -> None:
    """`wadctl restart ACCOUNT` replaces the worker of one account, and the daemon stays."""
    pid, worker = await world.pid(), (await world.wad.account("shop"))["worker"]["pid"]
    (command,) = commands_of("restart one account's worker")
    await world.container.run(command.replace("ACCOUNT", "shop"), user=OPERATOR)
    await world.wad.wait_account(
        "shop", lambda shown: (shown["worker"] or {}).get("pid") not in (None, worker), "a worker"
    )
    await world.connected()
    assert await world.pid() == pid
