"""Trials: the literal commands of docs/operations.md for an operator."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.lab.pages import indented, table
from tests.lab.trial import trial
from tests.lab.world import OPERATOR, World

PAGE: Final = "docs/operations.md"
_MISTAKE: Final = '[http]\nport = "many"\n'


def commands_of(row: str) -> list[str]:
    """The commands of a row in the page's table of tasks."""
    return table("to do", PAGE)[row]


@trial()
async def settings(world: World) -> None:
    """A setting is changed, checked, and in force after a restart or, where that is enough, a reload."""
    container, (file, check, restart) = world.container, commands_of("change a setting")
    before = container.path(file).read_text()
    await world.write(file, "[state]\nmin_free_mb = 32\n")
    await container.run(check, user=OPERATOR)
    await container.run(restart)
    await world.connected()
    for shown in ("wadctl config", "wad config show"):
        await container.run(f"{shown} | grep 'state.min_free_mb *32 .*{file}:2'", user=OPERATOR)
    await world.write(file, '[state]\nmin_free_mb = 32\n[log]\nlevel = "debug"\n')
    pid = await world.pid()
    await container.run("systemctl reload wad")
    await container.until(
        "journalctl --unit=wad --lines=50 --no-pager | grep 'the configuration was reloaded'",
        "its line in the log",
    )
    assert await world.pid() == pid
    await world.write(file, _MISTAKE)
    wrong = await container.try_run(check, user=OPERATOR)
    assert (wrong.returncode, f"{file}:2: http.port must be" in wrong.stdout + wrong.stderr) == (
        6,
        True,
    ), wrong
    await world.write(file, before)
    await container.run(restart)
    await world.connected()


@trial()
async def edit_unit(world: World) -> None:
    """`systemctl edit wad` changes a line of the unit, `systemctl revert wad` undoes it."""
    edit, revert = commands_of("change a line of the unit")
    await world.edit(edit, "[Service]", "TimeoutStopSec=45")
    assert await world.container.property("wad", "TimeoutStopUSec") == "45s"
    await world.container.run(revert)
    assert await world.container.property("wad", "TimeoutStopUSec") == "30s"
    await world.trust()  # a drop-in, too
    await world.container.run("systemctl restart wad")
    await world.connected()


@trial()
async def another_name(world: World) -> None:
    """The holder's name of this machine is set by the unit, and a drop-in changes it."""
    container = world.container
    edit, *lines, restart = commands_of(
        "another name of this machine (`instance.id`; the unit sets it to the host name)"
    )
    host = (await container.run("hostname")).strip()
    assert (await world.wad.call("status"))["instance"] == host
    await world.edit(edit, *lines)
    await container.run(restart)
    await container.run(
        "wadctl account start shop", user=OPERATOR
    )  # the session under the other name
    await world.connected()
    assert (await world.wad.call("status"))["instance"] == "box-7"
    await container.run("rm /etc/systemd/system/wad.service.d/override.conf")
    await container.run(f"systemctl daemon-reload && {restart}")
    await container.run("wadctl account start shop", user=OPERATOR)
    await world.connected()


@trial()
async def restart_refused(world: World) -> None:
    """A restart that is impossible names the step at which it failed, and each cause has its exit code."""
    container = world.container
    as_nobody = "runuser -u nobody -- "
    stranger = await _restart(world, 7, before=as_nobody, user="")
    assert (stranger["step"], stranger["error"]["code"]) == ("look", "denied"), stranger
    (let,) = commands_of("let a user run `wadctl` without sudo")
    await container.run(f"{let.replace('NAME', 'nobody')} && {as_nobody} wadctl status")
    await container.run("deluser nobody wad")
    (stop,) = commands_of("stop until the next boot")
    await container.run(stop)
    down = await _restart(world, 3)
    assert (down["step"], down["error"]["code"]) == ("look", "daemon_down"), down
    assert await container.property("wad", "ActiveState") == "inactive"
    await container.run("systemctl start wad")
    await world.connected()
    before = container.path("/etc/wad/wad.toml").read_text()
    await world.write("/etc/wad/wad.toml", _MISTAKE)
    late = await _restart(world, 3)
    assert (late["step"], late["error"]["code"]) == ("wait", "start_failed"), late
    assert (late["accountsBefore"], late["after"]) == (1, None), late
    await world.write("/etc/wad/wad.toml", before)
    await container.run("systemctl restart wad")
    await world.connected()


async def _restart(
    world: World, code: int, options: str = "", *, before: str = "", user: str = OPERATOR
) -> dict[str, Any]:
    """`wadctl restart --json` that has to fail; its output."""
    (_, command) = commands_of("restart and check that it worked")
    done = await world.container.try_run(f"{before}{command} {options}", user=user)
    assert done.returncode == code, done
    shown: dict[str, Any] = json.loads(done.stdout)
    assert shown["ok"] is False, shown
    assert shown["service"] == "wad", shown
    return shown


@trial()
async def journal(world: World) -> None:
    """The page's log fields find the right lines; phone numbers are masked in them."""
    container = world.container
    await world.restart()
    refused = await container.try_run("wadctl send nobody +15550000002 'a word'", user=OPERATOR)
    assert refused.returncode == 4, refused
    found = "--output=json --no-pager --lines=1 | grep -q unknown_account"
    for field in ("WAD_OPERATION=messages.send", "WAD_CODE=unknown_account"):
        await container.run(f"journalctl {field} {found}")
    shown = await container.run(
        "journalctl --unit=wad --output=json --output-fields=WAD_ACCOUNT --no-pager"
    )
    named = {json.loads(line).get("WAD_ACCOUNT") for line in shown.splitlines()} - {None}
    assert named == {"acc-1555****01"}, named
    await container.run("journalctl WAD_ACCOUNT=acc-1555****01 --no-pager | grep -q connected")
    worse = await container.run("journalctl -u wad -p warning --output=json --no-pager")
    ours = [json.loads(line) for line in worse.splitlines()]
    assert {int(record["PRIORITY"]) for record in ours} <= {0, 1, 2, 3, 4}, ours


@trial()
async def lease_by_hand(world: World) -> None:
    """The lease is shown, released, and acquired again; the account is connected afterwards."""
    *others, take, by_force = indented("Two machines", PAGE)
    release = others[-1]
    asked = {"release": " --yes", "take": " --yes"}
    for line in (*others, take, release, by_force):
        await world.container.run(f"{line}{asked.get(line.split()[2], '')}", user=OPERATOR)
    await world.connected()
    assert (await world.wad.call("status"))["lease"]["mode"] == "active"


@trial(spoils=True)
async def session_moved(world: World) -> None:
    """A session is exported as an encrypted file, and imported again, without a code."""
    await world.container.run("echo a secret of many letters > key && chmod 600 key", user=OPERATOR)
    more = {"export": " --key-file key --yes", "import": " --key-file key"}
    for line in indented("Where sessions are", PAGE):
        await world.container.run(f"{line}{more.get(line.split()[2], '')}", user=OPERATOR)
    await world.connected()
    await world.nothing_lost()


@trial()
async def put_away(world: World) -> None:
    """A removed account is restored, and connected."""
    removed = await world.container.run("wadctl account remove shop --yes --json", user=OPERATOR)
    ident = json.loads(removed)["account"]
    assert (await world.wad.call("status"))["accounts"] == []
    await world.container.run(f"wadctl account restore {ident}", user=OPERATOR)
    await world.connected()
    await world.nothing_lost()
