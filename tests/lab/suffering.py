"""Trials: a disk that is full or read-only, mistakes of an administrator, and a clock that jumps."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from typing import Any

from tests.lab.trial import trial
from tests.lab.world import World


async def _health(world: World) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(
        await world.container.run("curl --silent http://127.0.0.1:8080/health")
    )
    return shown


async def _on_a_small_disk(world: World) -> None:
    """The state on a separate disk of 200 MB, which can be filled and made read-only."""
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    await world.container.run(
        "mv /var/lib/wad /var/lib/kept && mkdir /var/lib/wad"
        " && mount -t tmpfs -o size=200m,mode=700 small /var/lib/wad"
        " && cp -a /var/lib/kept/. /var/lib/wad/ && chown wad:wad /var/lib/wad"
    )
    await world.container.run("systemctl start wad")
    await world.connected()


@trial(spoils=True)
async def full_disk(world: World) -> None:
    """On a full disk the account waits and reports why; with free space again it continues, and nothing is lost."""
    await _on_a_small_disk(world)
    await world.container.run("dd if=/dev/zero of=/var/lib/wad/filler bs=1M count=170 2>&1")
    await world.wad.wait_account(
        "shop", lambda shown: shown["state"] != "connected", "the account to wait"
    )
    assert "64 MB" in json.dumps(await world.wad.call("status"))
    await world.container.try_run("dd if=/dev/zero of=/var/lib/wad/filler2 bs=1M")  # to the brim
    await world.peer.send_text(world.shop, "sent while the disk is full")
    await asyncio.sleep(1)
    await world.container.run("rm /var/lib/wad/filler /var/lib/wad/filler2")
    await world.connected()
    await world.nothing_lost()


@trial(spoils=True)
async def read_only_disk(world: World) -> None:
    """On a read-only disk it reports that and keeps trying; once it is writable, wad runs without help."""
    await _on_a_small_disk(world)
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    await world.container.run("mount -o remount,ro /var/lib/wad")
    await world.container.try_run("systemctl start wad")
    await world.peer.send_text(world.shop, "sent while the disk is read-only")
    await world.container.until(
        "journalctl --unit=wad --lines=20 --no-pager | grep 'ead-only file system'",
        "the log to say so",
    )
    await world.container.until("test $(systemctl show -P NRestarts wad) -ge 2", "it to try again")
    await world.container.run("mount -o remount,rw /var/lib/wad")
    await world.connected()
    await world.nothing_lost()


@trial()
async def wrong_credentials(world: World) -> None:
    """A credential that is missing, or invalid, is named; once it is corrected, wad starts."""
    await world.drop_in("token", "LoadCredential=admin-token:/etc/wad/admin-token")
    await world.container.try_run("systemctl restart wad.service 2>&1")
    await world.container.until(
        "journalctl --unit=wad --no-pager | grep -i 'credentials' >&2", "the journal to say so"
    )
    await world.write("/etc/wad/admin-token", "two words\n")
    await world.container.until(
        "journalctl --unit=wad --no-pager --output=cat | grep 'http.admin_token must be'",
        "wad to name the mistake",
    )
    await world.container.until(
        'test "$(systemctl show -P ExecMainStatus wad)" = 6', "systemd to have its exit code"
    )
    assert await world.container.property("wad", "ActiveState") == "failed"
    assert "two words" not in await world.log()
    await world.write("/etc/wad/admin-token", "one-word\n")
    await world.container.run("systemctl restart wad.service")
    await world.connected()
    shown = await world.container.run(
        "cat /proc/$(systemctl show -P MainPID wad)/environ | tr '\\0' '\\n'"
    )
    assert "one-word" not in shown
    await world.no_drop_in("token")
    await world.container.run("rm /etc/wad/admin-token && systemctl restart wad.service")
    await world.connected()


@trial()
async def encrypted_credential(world: World) -> None:
    """A credential may be encrypted for this machine: wad's error about an invalid one shows that it reads it."""
    encrypt = "systemd-creds encrypt --with-key=host --name=admin-token - /etc/wad/admin-token.cred"
    await world.drop_in("token", "LoadCredentialEncrypted=admin-token:/etc/wad/admin-token.cred")
    await world.container.run(f"printf 'three whole words' | {encrypt}")
    await world.container.try_run("systemctl restart wad.service")
    assert await world.container.property("wad", "ActiveState") == "failed"
    said = await world.log("--lines=5")
    assert "credential admin-token: http.admin_token must be" in said, said
    await world.container.run(f"printf one-word | {encrypt}")
    await world.container.run("systemctl restart wad.service")
    await world.connected()
    await world.no_drop_in("token")
    await world.container.run("rm /etc/wad/admin-token.cred && systemctl restart wad.service")
    await world.connected()


@trial()
async def wrong_configuration(world: World) -> None:
    """A mistake in the file is reported with its line and not retried endlessly."""
    before = world.container.path("/etc/wad/wad.toml").read_text()
    await world.write("/etc/wad/wad.toml", '[http]\nport = "many"\n')
    await world.container.try_run("systemctl restart wad.service")
    assert await world.container.property("wad", "ActiveState") == "failed"
    assert "/etc/wad/wad.toml:2: http.port must be a whole number" in await world.log("--lines=20")
    await world.write("/etc/wad/wad.toml", before)
    await world.container.run("systemctl restart wad")
    await world.connected()


@trial()
async def drop_ins_of_before(world: World) -> None:
    """Settings of the backend that wad replaces keep their meaning."""
    await world.drop_in(
        "sessions",
        'Environment="SESSIONS_PATH=/var/lib/whatsapp-backend/sessions"',
        'Environment="INSTANCE_ID=%H"',
        "StateDirectory=whatsapp-backend",
        "TimeoutStopSec=30",
        "KillSignal=SIGINT",
    )
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    await world.container.run(
        "mkdir -p /var/lib/whatsapp-backend"
        " && mv /var/lib/wad/sessions /var/lib/whatsapp-backend/sessions"
        " && chown -R wad:wad /var/lib/whatsapp-backend"
    )
    await world.container.run("systemctl start wad")
    await world.connected()
    host = (await world.container.run("hostname")).strip()
    status = await world.wad.call("status")
    assert (status["instance"], len(status["accounts"])) == (host, 1)
    await world.container.run("test -e /var/lib/wad/wad.db")
    await world.container.run("systemctl stop wad.service 2>/dev/null")
    await world.no_drop_in("sessions")
    await world.container.run(
        "mv /var/lib/whatsapp-backend/sessions /var/lib/wad/sessions && rmdir /var/lib/whatsapp-backend"
    )
    await world.container.run("systemctl start wad")
    await world.connected()


@trial(spoils=True)
async def clock(world: World) -> None:
    """The clock is set an hour back and two days forth: the account stays connected, the lease is kept."""
    library = await world.container.run("echo /usr/lib/*/faketime/libfaketimeMT.so.1")
    await world.write("/opt/clock", "+0\n")
    await world.drop_in(
        "clock",
        f"Environment=LD_PRELOAD={library.strip()} FAKETIME_TIMESTAMP_FILE=/opt/clock",
        "Environment=FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1",
    )
    await world.container.run("systemctl restart wad")
    await world.connected()
    pid = await world.pid()
    epoch = (await world.wad.call("status"))["lease"]["epoch"]
    for offset in ("-3600", "+172800", "+0"):
        await world.write("/opt/clock", f"{offset}\n")
        shown = (await _health(world))["timestamp"]
        skew = datetime.fromisoformat(shown).timestamp() - time.time()
        assert abs(skew - int(offset)) < 60, shown
        await asyncio.sleep(6)  # longer than a renewal of the lease
        await world.peer.send_text(world.shop, f"at {offset}")
        await world.nothing_lost()
        status = await world.wad.call("status")
        assert status["lease"]["mode"] == "active", status["lease"]
        assert status["lease"]["epoch"] == epoch, status["lease"]
        assert status["accounts"][0]["state"] == "connected", status["accounts"]
    assert await world.pid() == pid
