"""`wadctl doctor` on real installations: a healthy one, and broken ones, each named by the right line."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.audit.damage import copy_message, ids
from tests.missing import Missing, as_root
from tests.support.daemons import Daemon, a_daemon
from tests.support.disks import a_disk
from tests.system.systems import System, a_system
from wad.audit.doctor import host

pytestmark = pytest.mark.timeout(180)

ALWAYS = {"service", "limits", "dashboard", "firestore"}
"""Lines that depend on where this runs and which store and version it is; the tests of the rules cover them."""


@pytest.fixture
def installation() -> Iterator[Path]:
    """A directory that outlives a reboot, as an installation needs one; pytest's own may be in memory."""
    path = Path(tempfile.mkdtemp(prefix=".wad-doctor-", dir=_on_a_disk()))
    yield path
    shutil.rmtree(path)


def _on_a_disk() -> Path:
    """A writable directory on a disk.  Raises Missing on a machine whose home directory is in memory."""
    for candidate in (Path.home(), Path("/var/tmp"), Path(__file__).parent.parent.parent):
        (mount,) = host.mounts_of([candidate])
        if mount.kind not in ("tmpfs", "ramfs", "overlay", "aufs") and os.access(
            candidate, os.W_OK
        ):
            return candidate
    raise Missing("a home on a disk", "HOME=/directory/on/a/disk make test")


@asynccontextmanager
async def paired(directory: Path) -> AsyncIterator[System]:
    """An account that is signed in, with the real library, and has received something."""
    async with a_system(directory) as system:
        await system.pair()
        await system.receive("one", "two")
        yield system


def ill(checks: dict[str, Any]) -> dict[str, str]:
    """The lines that are neither PASS nor SKIPPED."""
    return {
        ident: check["outcome"]
        for ident, check in checks.items()
        if check["outcome"] in ("WARN", "FAIL") and ident not in ALWAYS
    }


EMPTY = {"daemon": "WARN", "sessions": "WARN", "accounts": "WARN"}
"""The findings for a healthy daemon with the simulator and without accounts."""


async def test_a_healthy_installation(installation: Path) -> None:
    """Every line passes, the restart included, and nothing in the report names a number."""
    async with paired(installation) as system:
        done = await system.daemon.wadctl("doctor", "--restart", "--json", timeout=150)
        report = json.loads(done.stdout)
        checks = {check["id"]: check for check in report["checks"]}
        passed = {ident for ident, check in checks.items() if check["outcome"] == "PASS"}
        assert passed | ALWAYS == set(checks), report
        assert (done.returncode, report["verdict"]) == (0, "healthy")
        assert "1 connected again" in checks["restart"]["evidence"]
        assert "account_dirs 1, paired 1, pre_keys " in checks["sessions"]["evidence"]
        assert "pre_keys 0" not in checks["sessions"]["evidence"]
        assert "15550000001" not in done.stdout + done.stderr


async def test_no_daemon(installation: Path) -> None:
    """What depends on it is skipped, and not called broken as well."""
    daemon = Daemon(installation, engine="simulator")
    await daemon.start()
    await daemon.end()
    checks = await daemon.doctor(code=2)
    assert ill(checks) == {"daemon": "FAIL", "sessions": "WARN"}
    assert checks["daemon"]["fix"][0] in ("wad run", "systemctl start wad")


async def test_a_daemon_without_accounts(installation: Path) -> None:
    """The base line of the set-ups below."""
    async with a_daemon(installation, engine="simulator") as daemon:
        checks = await daemon.doctor(code=10)
        assert ill(checks) == EMPTY
        assert checks["accounts"]["fix"] == ["wadctl account add NAME --pair"]


async def test_a_port_of_another_process(installation: Path) -> None:
    """The daemon cannot start; the line names the process that has its port."""
    daemon = Daemon(installation, engine="simulator")
    await daemon.start()
    await daemon.end()
    with closing(socket.create_server(("127.0.0.1", daemon.port))) as squatter:
        squatter.listen()
        done = await daemon.wadctl("doctor", "--full", timeout=60)
    assert done.returncode == 2
    assert f"port {daemon.port} is held by" in done.stdout
    assert f"ss -ltnp 'sport = :{daemon.port}'" in done.stdout


async def test_without_http(installation: Path) -> None:
    """Where it is switched off it is not reported as missing, nor the daemon as unhealthy."""
    async with a_daemon(installation, {"WAD_HTTP_ENABLED": "false"}, engine="simulator") as daemon:
        checks = await daemon.doctor(code=10)
    assert ill(checks) == EMPTY
    for line in ("port", "health", "burst", "dashboard"):
        assert checks[line]["outcome"] == "SKIPPED"
    assert checks["port"]["evidence"] == "http.enabled is false"


async def test_state_in_memory(installation: Path) -> None:
    """It would be gone after a reboot."""
    with a_disk(installation / "disk", "400m") as disk:
        async with a_daemon(disk, engine="simulator") as daemon:
            checks = await daemon.doctor(code=2)
    assert ill(checks) == EMPTY | {"sessions_persistent": "FAIL"}
    assert any("cp -a" in line for line in checks["sessions_persistent"]["fix"])


async def test_files_of_another_user(installation: Path) -> None:
    """As after a restore by hand."""
    async with a_daemon(installation, engine="simulator") as daemon:
        restored = daemon.state / "sessions/shop.backup"
        restored.write_bytes(b"x")
        as_root("chown", "nobody:nogroup", str(restored))
        checks = await daemon.doctor(code=2)
    assert ill(checks) == EMPTY | {"sessions_writable": "FAIL"}
    assert (
        checks["sessions_writable"]["fix"][0]
        == f"chown -R {getpass.getuser()}: {daemon.state}/sessions"
    )


async def test_keys_that_others_may_read(installation: Path) -> None:
    """A user that can read the files has the accounts."""
    async with a_daemon(installation, engine="simulator") as daemon:
        (daemon.state / "sessions").chmod(0o755)
        checks = await daemon.doctor(code=10)
    assert ill(checks) == EMPTY | {"sessions_writable": "WARN"}
    assert checks["sessions_writable"]["fix"] == [f"chmod -R go= {daemon.state}/sessions"]


async def test_too_little_room(installation: Path) -> None:
    """The daemon reports it as well, since accounts do not connect."""
    async with a_daemon(
        installation, {"WAD_STATE_MIN_FREE_MB": "1000000"}, engine="simulator"
    ) as daemon:
        checks = await daemon.doctor(code=2)
    assert ill(checks) == EMPTY | {"disk": "FAIL", "health": "WARN"}
    assert checks["disk"]["fix"][0].startswith("df -h /")


async def test_an_account_that_was_logged_out(installation: Path) -> None:
    """By the phone; only a new pairing helps."""
    async with paired(installation) as system:
        await system.account.log_out()
        await system.daemon.wait_state("shop", "logged_out")
        checks = await system.daemon.doctor("--full", code=2)
    assert ill(checks)["accounts"] == "FAIL"
    assert checks["accounts"]["fix"] == ["wadctl account pair shop"]


async def test_sessions_that_were_left_behind(installation: Path) -> None:
    """SESSIONS_PATH was moved away from existing accounts: both paths are named."""
    async with paired(installation) as system:
        daemon = system.daemon
        await daemon.end()
        daemon.environ["SESSIONS_PATH"] = str(installation / "elsewhere")
        await daemon.start()
        checks = await daemon.doctor(code=10)
    assert checks["sessions"]["outcome"] == "WARN"
    assert str(installation / "elsewhere") in checks["sessions"]["evidence"]
    assert str(daemon.state / "sessions") in checks["sessions"]["evidence"]


async def test_a_damaged_session(installation: Path) -> None:
    """It was set aside, and the account waits for an operator."""
    async with paired(installation) as system:
        daemon = system.daemon
        shown = await daemon.account("shop")
        await daemon.end()
        account_dir = daemon.state / "sessions" / shown["id"]
        for suffix in ("-wal", "-shm"):
            (account_dir / f"session.db{suffix}").unlink(missing_ok=True)
        (account_dir / "session.db").write_bytes(b"\x00no database" * 1000)
        checks = await daemon.doctor("--full", code=2)
        assert ill(checks) == {"daemon": "FAIL", "sessions": "FAIL"}
        assert shown["id"] in checks["sessions"]["fix"][0]
        await daemon.start()
        await daemon.wait_state("shop", "failed")
        checks = await daemon.doctor("--full", code=2)
        assert ill(checks)["accounts"] == "FAIL"
        assert "session.db.damaged" in checks["sessions"]["evidence"]


async def test_a_lease_that_cannot_be_held(installation: Path) -> None:
    """No instance acts, and the line has the reason and the next step."""
    daemon = Daemon(installation, engine="simulator")
    (daemon.state / "lease.json.new/in-the-way").mkdir(parents=True)
    await daemon.start()
    try:
        checks = await daemon.doctor(code=2)
    finally:
        await daemon.end(signal.SIGKILL)
    assert ill(checks)["lock"] == "FAIL"
    assert checks["lock"]["fix"][0] == f"ls -l {daemon.state}/lease.json"


async def test_duplicates_in_the_store(installation: Path) -> None:
    """The audits are part of it, and the fix repairs it while the daemon runs."""
    async with paired(installation) as system:
        file = system.daemon.state / "wad.db"
        copy_message(file, ids(file)[0], "duplicate")
        checks = await system.daemon.doctor(code=2)
        assert ill(checks) == {"duplicates": "FAIL"}
        assert checks["duplicates"]["fix"][-1] == "wadctl audit repair --apply"
        assert (await system.daemon.wadctl("audit", "repair", "--apply")).returncode == 0
        assert ill(await system.daemon.doctor(code=0)) == {}
        assert len(await system.daemon.messages("shop")) == 2


async def test_a_mistake_in_the_configuration(installation: Path) -> None:
    """The running daemon does not mind; the next start would."""
    async with a_daemon(installation, engine="simulator") as daemon:
        file = installation / "wad.toml"
        file.write_text("[http]\nprot = 1\n")
        checks = await daemon.doctor("--config", str(file), code=2)
    assert ill(checks) == EMPTY | {"configuration": "FAIL"}
    assert "did you mean http.port" in checks["configuration"]["evidence"]


async def test_an_instance_id_that_changes(installation: Path) -> None:
    """A container's host name is another one next time."""
    async with a_daemon(
        installation, {"INSTANCE_ID": "host_3f2b1a0c9d8e"}, engine="simulator"
    ) as daemon:
        checks = await daemon.doctor(code=10)
    assert ill(checks) == EMPTY | {"instance_id": "WARN"}


async def test_a_report_to_send(installation: Path) -> None:
    """A page of Markdown, with the commands in it."""
    async with a_daemon(installation, engine="simulator") as daemon:
        done = await daemon.wadctl("doctor", "--markdown", timeout=60)
        text = await daemon.wadctl("doctor", timeout=60)
    assert done.stdout.startswith("# wad 0.1.0 on host-")
    assert "| PASS | lease |" in done.stdout
    assert "```sh\nwadctl account add NAME --pair\n```" in done.stdout
    assert "> wadctl account add NAME --pair" in text.stdout


async def test_wrong_usage(installation: Path) -> None:
    """As with the audits, 2 is a finding."""
    done = await Daemon(installation).wadctl("doctor", "--no-such")
    assert done.returncode == 64


async def test_the_running_daemons_settings_are_shown(installation: Path) -> None:
    """`wadctl config` shows the values in use, whatever the files say now."""
    async with a_daemon(
        installation, {"ADMIN_TOKEN": "a-secret-of-the-doctors-test"}, engine="simulator"
    ) as daemon:
        shown = {row["key"]: row for row in await daemon.wadctl_json("config")}
    assert shown["http.port"] == {
        "key": "http.port",
        "value": daemon.port,
        "source": "environment PORT",
    }
    assert shown["http.admin_token"]["value"] == "(set)"
