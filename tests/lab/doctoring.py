"""Trials of the doctor on real systemd: all PASS on a disk, and broken set-ups, each reported by the right line.

The fix in that line is run literally, unless it needs an editor, and repairs the set-up.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.trial import trial
from tests.lab.world import World
from wad.store.sqlite.rows import MESSAGE_COLUMNS

_STOP: Final = "systemctl stop wad.service 2>/dev/null"
_START: Final = (
    "systemctl stop wad.socket wad-http.socket wad.service 2>/dev/null;"
    " systemctl reset-failed wad.socket wad-http.socket wad.service;"
    " systemctl start wad.socket wad-http.socket wad.service"
)
_OTHERS: Final = MESSAGE_COLUMNS.removeprefix("id, ")
_TWIN: Final = (
    "import sqlite3; db = sqlite3.connect('/var/lib/wad/wad.db', isolation_level=None);"
    " db.execute('DROP INDEX messages_by_wa_id');"
    f" db.execute('INSERT INTO messages (id, {_OTHERS}) SELECT ?, {_OTHERS} FROM messages"
    " ORDER BY at_ms DESC LIMIT 1', ['duplicate'])"
)
"""Makes a second document of the newest message, which the unique index prevents while it exists."""
_BY_HAND: Final = ("editor ", "systemctl edit ", "journalctl ")
"""What a person does, or checks."""


@dataclass(frozen=True)
class Broken:
    """A set-up.  `line`: the one that reports it, with this outcome, evidence and these beginnings of its fix.

    `too`: other affected lines.  `mend`: the operator's steps, if the fix cannot just be run.
    """

    name: str
    breaking: str
    line: str
    outcome: str
    evidence: str
    fix: tuple[str, ...]
    too: tuple[str, ...] = ()
    mend: str = ""


def _drop_in(name: str, *lines: str) -> str:
    text = "\\n".join(["[Service]", *lines, ""])
    place = f"/etc/systemd/system/wad.service.d/{name}.conf"
    return f"printf '{text}' >{place}; systemctl daemon-reload; systemctl restart wad.service"


def _no_drop_in(name: str) -> str:
    place = f"/etc/systemd/system/wad.service.d/{name}.conf"
    return f"rm {place}; systemctl daemon-reload; {_STOP}; {_START}"


_SILENT: Final = ("service", "daemon", "health", "burst")
"""The lines that are affected when the daemon does not run."""
SETUPS: Final = (
    Broken(
        "the service is down",
        "systemctl stop wad.socket wad-http.socket wad.service 2>/dev/null",
        "service", "FAIL", "inactive", ("journalctl -u wad", "wad config check", "systemctl start wad"), ("daemon",),
    ),
    Broken(
        "it will not start at boot",
        "systemctl disable --quiet wad.service 2>/dev/null",
        "service", "WARN", "will not start at boot", ("systemctl enable wad",),
    ),
    Broken(
        "another program has the port",
        "systemctl stop wad-http.socket wad.service 2>/dev/null;"
        " systemd-run --quiet --unit=other python3 -m http.server 8080 --bind 127.0.0.1;"
        " until curl --silent http://127.0.0.1:8080/ >/dev/null; do sleep 0.1; done;"
        " systemctl start wad.service 2>/dev/null",
        "port", "FAIL", "port 8080 is held by python3", ("ss -ltnp 'sport = :8080'", "kill "),
        (*_SILENT, "dashboard", "lock", "instance_id"), f"systemctl stop other; {_START}",
    ),
    Broken(
        "files of another user",
        "install -o nobody -g nogroup -m 600 /dev/null /var/lib/wad/sessions/shop.backup",
        "sessions_writable", "FAIL", "belong to another user than wad",
        ("chown -R wad: /var/lib/wad/sessions", "systemctl restart wad"),
    ),
    Broken(
        "keys that others may read",
        "chmod 755 /var/lib/wad/sessions",
        "sessions_writable", "WARN", "others may read", ("chmod -R go= /var/lib/wad/sessions",),
    ),
    Broken(
        "the sessions' disk is read-only",
        "mount --bind /var/lib/wad/sessions /var/lib/wad/sessions"
        " && mount -o remount,ro,bind /var/lib/wad/sessions",
        "sessions_writable", "FAIL", "/var/lib/wad/sessions is mounted read-only",
        ("mount -o remount,rw /var/lib/wad/sessions", "dmesg"), ("daemon", "accounts", "health", "sessions"),
        f"{_STOP}; umount /var/lib/wad/sessions; {_START}",
    ),
    Broken(
        "the state is in memory",
        f"{_STOP}; cp -a /var/lib/wad /var/lib/kept; mount -t tmpfs -o size=300m,mode=700 small /var/lib/wad;"
        f" cp -a /var/lib/kept/. /var/lib/wad/; chown wad: /var/lib/wad; rm -r /var/lib/kept; {_START}",
        "sessions_persistent", "FAIL", "is in memory (tmpfs at /var/lib/wad)",
        ("systemctl stop wad", "cp -a /var/lib/wad /var/lib/wad.kept"), ("disk", "accounts"),
    ),
    Broken(
        "too little room",
        _drop_in("room", "Environment=WAD_STATE_MIN_FREE_MB=1000000"),
        "disk", "FAIL", "accounts disconnect below 1000000 MB", ("df -h ",),
        ("daemon", "accounts", "health"), _no_drop_in("room"),
    ),
    Broken(
        "a name that changes",
        _drop_in("name", "Environment=INSTANCE_ID=3f2b1a0c9d8e"),
        "instance_id", "WARN", "looks like a container's id", ("systemctl edit wad", "systemctl restart wad"),
        ("accounts",), _no_drop_in("name"),
    ),
    Broken(
        "a mistake in the configuration",
        "cp -a /etc/wad/wad.toml /root/kept; printf '[http]\\nprot = 1\\n' >/etc/wad/wad.toml",
        "configuration", "FAIL", "http.prot", ("wad config check", "editor /etc/wad/wad.toml"),
        (), "mv /root/kept /etc/wad/wad.toml",
    ),
    Broken(
        "credentials that are none",
        _drop_in("cloud", "Environment=WAD_STORE_KIND=firestore FIREBASE_SERVICE_ACCOUNT_JSON={")
        + " 2>/dev/null",
        "firestore", "FAIL", "store.firestore_credentials: not JSON", ("systemctl edit wad", "wad config check"),
        (*_SILENT, "configuration", "port", "lock", "dashboard"), _no_drop_in("cloud"),
    ),
    Broken(
        "the lease cannot be held",
        f"{_STOP}; mkdir -p /var/lib/wad/lease.json.new/in-the-way; chown -R wad: /var/lib/wad/lease.json.new;"
        " systemctl start --no-block wad.service;"
        " until wadctl status >/dev/null 2>&1; do sleep 0.5; done",
        "lock", "FAIL", "no instance", ("ls -l /var/lib/wad/lease.json",), ("service", "daemon", "accounts", "health"),
        f"{_STOP}; rm -r /var/lib/wad/lease.json.new; {_START}",
    ),
)  # fmt: skip


@trial(spoils=True)
async def doctor_of_the_broken(world: World) -> None:
    """On a disk every line passes; then twelve set-ups, and documents of other programs in the store."""
    async with _on_a_disk(world) as of_the_lab:
        await _healthy(world, of_the_lab)
        wrong = []
        for setup in SETUPS:
            try:
                await _tried(world, setup, of_the_lab)
            except AssertionError as error:
                wrong.append(f"{setup.name}: {error}")
        assert not wrong, "\n".join(wrong)
        await _duplicates(world)
        await _healthy(world, of_the_lab)


async def _tried(world: World, setup: Broken, of_the_lab: dict[str, str]) -> None:
    await world.container.try_run(setup.breaking, timeout=120)
    checks = await _examined(world)
    named = checks[setup.line]
    by_itself = [line for line in named["fix"] if not line.startswith(_BY_HAND)]
    await world.container.run(setup.mend or "\n".join(by_itself), timeout=120)
    await world.connected()
    mended = (await _examined(world))[setup.line]
    ill = {
        ident
        for ident, check in checks.items()
        if check["outcome"] in ("WARN", "FAIL") and ident not in of_the_lab
    }
    assert (named["outcome"], setup.evidence in named["evidence"]) == (setup.outcome, True), named
    for begins, line in zip(setup.fix, named["fix"], strict=False):
        assert line.startswith(begins), named
    assert len(named["fix"]) >= len(setup.fix), named
    # A restarted account may still be logging in.
    assert ill <= {setup.line, *setup.too, "accounts"}, {each: checks[each] for each in ill}
    assert mended["outcome"] == of_the_lab.get(setup.line, "PASS"), mended


async def _duplicates(world: World) -> None:
    """A duplicate document is found, and the fix marks it while the daemon runs."""
    await world.container.run(f"python3 -c {shlex.quote(_TWIN)}")
    named = (await _examined(world))["duplicates"]
    assert (named["outcome"], named["fix"][-1]) == ("FAIL", "wadctl audit repair --apply"), named
    await world.container.run(named["fix"][-1])


async def _healthy(world: World, of_the_lab: dict[str, str]) -> None:
    checks = await _examined(world)
    wrong = {
        ident: check
        for ident, check in checks.items()
        if check["outcome"] != ({"restart": "SKIPPED"} | of_the_lab).get(ident, "PASS")
    }
    assert not wrong, wrong


async def _examined(world: World) -> dict[str, Any]:
    """Every line by its id."""
    done = await world.container.try_run("wadctl doctor --full --json", timeout=150)
    assert done.returncode in (0, 2, 10), done
    return {check["id"]: check for check in json.loads(done.stdout)["checks"]}


@asynccontextmanager
async def _on_a_disk(world: World) -> AsyncIterator[dict[str, str]]:
    """The state on a separate disk while the block runs; the lines that are not PASS on this machine all the same.

    If the kernel has no loop device the state stays in the container's layer.
    """
    limits = (await world.wad.call("status"))["limits"]
    expected = {"firestore": "SKIPPED"} | ({"limits": "WARN"} if limits["reason"] else {})
    device = await asyncio.to_thread(_loop_device, world.work / "disk.img")
    if device is None:
        yield expected | {"sessions_persistent": "WARN"}
        return
    try:
        number = Path(device).stat().st_rdev
        await world.container.run(
            f"mknod /root/disk b {os.major(number)} {os.minor(number)} && {_STOP}; mv /var/lib/wad /var/lib/layer"
            " && mkdir -m 700 /var/lib/wad && mount -t ext4 /root/disk /var/lib/wad"
            " && cp -a /var/lib/layer/. /var/lib/wad/ && chown wad:wad /var/lib/wad && chmod 700 /var/lib/wad"
            f" && rmdir /var/lib/wad/lost+found && {_START}"
        )
        await world.connected()
        yield expected
        await world.container.run(
            f"{_STOP}; rm -r /var/lib/layer && cp -a /var/lib/wad /var/lib/layer && umount /var/lib/wad"
            f" && rmdir /var/lib/wad && mv /var/lib/layer /var/lib/wad && rm /root/disk; {_START}"
        )
        await world.connected()
    finally:
        with suppress(subprocess.CalledProcessError):
            await asyncio.to_thread(_run, "losetup", "--detach", device)


def _loop_device(image: Path) -> str | None:
    with image.open("wb") as file:
        file.truncate(600 << 20)
    try:
        _run("mkfs.ext4", "-q", "-F", str(image))
        return _run("losetup", "--find", "--show", str(image)).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
