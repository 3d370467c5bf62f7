"""The whole system through its public interfaces: the real daemon, the real library, the protocol server, `wadctl`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import Daemon, a_daemon
from tests.support.disks import a_disk
from tests.system.systems import a_system
from wad.core.errors import NotOnWhatsApp

pytestmark = pytest.mark.timeout(180)


async def test_pair_receive_store_answer(tmp_path: Path) -> None:
    """The main job: a QR code, messages in, an answer out, delivered and read."""
    async with a_system(tmp_path) as system:
        shown = await system.pair()
        assert shown["jid"].startswith("15550000001:")
        await system.receive("one", "two", "three")
        stored = await system.daemon.messages("shop")
        assert [m["text"] for m in stored] == ["one", "two", "three"]
        assert {m["thread"] for m in stored} == {f"{shown['id']}__15550000012@s.whatsapp.net"}
        sent = await system.daemon.wadctl_json(
            "send", "shop", "+15550000012", "hello Bob", "--wait", "20"
        )
        assert sent["message"]["state"] in ("sent", "delivered")
        got = await system.bob.received(system.account, text="hello Bob")
        assert got.ident == sent["message"]["wa_id"]
        await system.bob.send_receipt(system.account, got.ident, kind="read")
        async with asyncio.timeout(30):
            while (await system.daemon.messages("shop"))[-1]["status"] != "read":
                await asyncio.sleep(0.05)


async def test_the_account_is_connected_again_without_a_code_after_kill_9(tmp_path: Path) -> None:
    """Worker, then daemon: nothing is scanned again, nothing is stored twice."""
    async with a_system(tmp_path) as system:
        before = await system.pair()
        idents = await system.receive("one")
        os.kill(before["worker"]["pid"], signal.SIGKILL)
        await system.daemon.wait_account(
            "shop", lambda shown: (shown["worker"] or {}).get("restarts") == 1, "another worker"
        )
        await system.daemon.wait_state("shop", "connected")
        idents += await system.receive("two")
        await system.daemon.end(signal.SIGKILL)
        idents += [await system.bob.send_text(system.account, "while away")]
        await system.daemon.start()
        shown = await system.daemon.wait_state("shop", "connected")
        assert shown["qr"] is None
        await system.stored(idents)
        assert await system.counts() == Counter(idents)


async def test_workers_die_with_the_daemon(tmp_path: Path) -> None:
    """After a kill -9 of the daemon no worker acts on."""
    async with a_system(tmp_path) as system:
        pid = (await system.pair())["worker"]["pid"]
        await system.daemon.end(signal.SIGKILL)
        async with asyncio.timeout(30):
            while Path(f"/proc/{pid}/status").exists():
                await asyncio.sleep(0.01)


async def test_a_graceful_stop_loses_nothing_and_lets_go(tmp_path: Path) -> None:
    """Stopped in a burst: what was receipted is stored, the lease is free, the exit code is 0."""
    async with a_system(tmp_path) as system:
        await system.pair()
        idents = [await system.bob.send_text(system.account, f"text {n}") for n in range(200)]
        assert await system.daemon.end(signal.SIGINT) == 0
        assert json.loads((system.daemon.state / "lease.json").read_text())["holder"] == ""
        await system.daemon.start()
        await system.stored(idents)
        assert await system.counts() == Counter(idents)


async def test_a_second_signal_kills_the_workers_and_still_lets_go(tmp_path: Path) -> None:
    """A worker that hangs would hold the stop up; others should not wait for the ttl because of it."""
    async with a_system(tmp_path, WAD_ENGINE_STOP_TIMEOUT="60") as system:
        pid = (await system.pair())["worker"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        assert system.daemon.process is not None
        system.daemon.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            while "stopping" not in system.daemon.log.read_text():
                await asyncio.sleep(0.01)
        assert await system.daemon.end(signal.SIGINT) == 0
        assert json.loads((system.daemon.state / "lease.json").read_text())["holder"] == ""
        assert not Path(f"/proc/{pid}").exists()


async def test_a_signal_to_the_whole_service_stops_the_daemon(tmp_path: Path) -> None:
    """`systemctl kill` sends to the workers, too: they go on, and the daemon ends them."""
    async with a_system(tmp_path) as system:
        pid = (await system.pair())["worker"]["pid"]
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM):
            os.kill(pid, number)
        await system.stored([await system.bob.send_text(system.account, "hello")])
        shown = await system.daemon.account("shop")
        assert (shown["worker"]["pid"], shown["worker"]["restarts"]) == (pid, 0)


async def test_the_phone_logs_the_device_out(tmp_path: Path) -> None:
    """The account shows it with a hint; messages stay; it can be paired again."""
    async with a_system(tmp_path) as system:
        await system.pair()
        idents = await system.receive("one")
        await system.account.log_out()
        shown = await system.daemon.wait_state("shop", "logged_out")
        assert shown["action"] == "wadctl account pair shop"
        await system.account.phone.scan(await system.daemon.qr("shop"))
        await system.daemon.wait_state("shop", "connected")
        assert await system.counts() == Counter(idents)


async def test_logout_by_the_operator(tmp_path: Path) -> None:
    """WhatsApp forgets the device."""
    async with a_system(tmp_path) as system:
        await system.pair()
        done = await system.daemon.wadctl("account", "logout", "shop", "--yes")
        assert done.returncode == 0, done
        await system.daemon.wait_state("shop", "logged_out")


async def test_a_dropped_connection_is_reconnecting_and_recovers(tmp_path: Path) -> None:
    """The network is down for a while; what was sent meanwhile arrives afterwards."""
    async with a_system(tmp_path) as system:
        await system.pair()
        system.server.refusing = True
        await system.server.drop(system.account)
        await system.daemon.wait_state("shop", "reconnecting")
        ident = await system.bob.send_text(system.account, "while away")
        queued = await system.daemon.call(
            "messages.send", account="shop", to="+15550000012", text="waiting"
        )
        assert queued["message"]["state"] == "queued"
        system.server.refusing = False
        await system.daemon.wait_state("shop", "connected")
        await system.stored([ident])
        await system.bob.received(system.account, text="waiting")


async def test_a_start_without_a_network_continues(tmp_path: Path) -> None:
    """The library gives up at once when it cannot dial; wad does not."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.daemon.end()
        system.server.refusing = True
        await system.daemon.start()
        await system.daemon.wait_state("shop", "reconnecting")
        system.server.refusing = False
        shown = await system.daemon.wait_state("shop", "connected")
        assert shown["qr"] is None


async def test_a_worker_that_cannot_reconnect_by_itself_is_replaced(tmp_path: Path) -> None:
    """The library's pauses grow without bound; a new worker connects at once."""
    async with a_system(tmp_path) as system:
        await system.daemon.end()
        system.daemon.environ["WAD_ENGINE_CONNECT_TIMEOUT"] = "2"
        await system.daemon.start()
        pid = (await system.pair())["worker"]["pid"]
        system.server.refusing = True
        await system.server.drop(system.account)
        await system.daemon.wait_account(
            "shop", lambda s: not s["worker"] or s["worker"]["pid"] != pid, "the worker's end"
        )
        system.server.refusing = False
        await system.daemon.wait_state("shop", "connected")


async def test_an_account_that_logged_in_elsewhere_is_not_connected_again(tmp_path: Path) -> None:
    """Replaced: it stops, reports this, and waits for the operator."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.account.replace()
        shown = await system.daemon.wait_state("shop", "replaced")
        await system.daemon.wait_account("shop", lambda shown: shown["worker"] is None, "no worker")
        assert "account start" in shown["action"]
        await system.daemon.call("accounts.start", account="shop")
        await system.daemon.wait_state("shop", "connected")


async def test_a_hanging_worker_is_replaced(tmp_path: Path) -> None:
    """A worker that answers no probe is killed; a fresh one connects."""
    async with a_system(tmp_path) as system:
        await system.pair()
        await system.daemon.end()
        # On a busy machine a worker that loads the library may take seconds for its first answer.
        system.daemon.environ |= {"WAD_ENGINE_PROBE_EVERY": "0.2", "WAD_ENGINE_PROBE_TIMEOUT": "5"}
        await system.daemon.start()
        pid = (await system.daemon.wait_state("shop", "connected"))["worker"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        await system.daemon.wait_account(
            "shop", lambda s: s["worker"] and s["worker"]["pid"] != pid, "another worker"
        )
        await system.daemon.wait_state("shop", "connected")


@pytest.mark.parametrize("name", ["session.db", "spool.db"])
async def test_a_damaged_file_of_one_account_is_set_aside(tmp_path: Path, name: str) -> None:
    """The account reports it, the file is kept, the other account runs."""
    async with a_system(tmp_path) as system:
        account_dir = system.daemon.state / "sessions" / (await system.pair())["id"]
        other = system.server.add_account("15550000002", name="Other")
        await system.daemon.call("accounts.add", name="other", phone="+15550000002")
        await other.phone.scan(await system.daemon.qr("other"))
        await system.daemon.wait_state("other", "connected")
        await system.daemon.end()
        for suffix in ("-wal", "-shm"):
            (account_dir / f"{name}{suffix}").unlink(missing_ok=True)
        (account_dir / name).write_bytes(b"\x00no database" * 1000)
        await system.daemon.start()
        await system.daemon.wait_state("other", "connected")
        if name == "session.db":
            shown = await system.daemon.wait_state("shop", "failed")
            assert "set aside" in shown["reason"]
            await system.account.phone.scan(await system.daemon.qr("shop"))
        shown = await system.daemon.wait_state("shop", "connected")
        assert any("set aside" in warning for warning in shown["warnings"])
        assert list(account_dir.glob(f"{name}.damaged-*"))
        await system.receive("after it")


async def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    """It names the pid of the first and leaves it alone."""
    async with a_daemon(tmp_path, engine="simulator") as first:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "wad", "run"],
            env=first.environ,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 5
        assert first.process is not None
        assert f"pid {first.process.pid}" in done.stderr
        assert (await first.call("status"))["lease"]["mode"] == "active"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 MB."""
    with a_disk(tmp_path / "disk", "200m") as disk:
        yield disk


async def test_a_nearly_full_disk_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    """Before it is full the accounts disconnect with the reason; with room again everything arrives."""
    async with a_system(tmp_path) as system:
        await system.daemon.end()
        system.daemon.environ["SESSIONS_PATH"] = str(small_disk)
        await system.daemon.start()
        await system.pair()
        idents = await system.receive("before")
        filler = small_disk / "filler"
        filler.write_bytes(b"x" * 150_000_000)
        shown = await system.daemon.wait_account(
            "shop", lambda s: "MB are free" in s["reason"], "the reason"
        )
        assert (shown["state"], shown["qr"], shown["worker"]) == ("reconnecting", None, None)
        assert any("MB are free" in w for w in (await system.daemon.call("status"))["warnings"])
        idents += [await system.bob.send_text(system.account, f"text {n}") for n in range(30)]
        filler.unlink()
        await system.daemon.wait_state("shop", "connected")
        await system.stored(idents)
        assert await system.counts() == Counter(idents)


async def test_a_disk_that_is_full_at_the_start_is_named(tmp_path: Path) -> None:
    """The error of a daemon that cannot write its state."""
    with a_disk(tmp_path / "state", "100k") as state:
        with pytest.raises(OSError, match="space"):
            (state / "filler").write_bytes(b"x" * 1_000_000)
        daemon = Daemon(tmp_path, engine="simulator")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "wad", "run"],
            env=daemon.environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 8, done
        assert "cannot write" in done.stderr
        assert "df -h" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["account", "show", "nobody"], 4, "there is no account 'nobody'"),
        (["account", "add", "x", "--phone", "12"], 2, "not an international phone number"),
        (["send", "shop", "not a number", "hi"], 2, "not an international phone number"),
        (["send", "shop", "+15550000012", ""], 2, "the text is empty"),
        (["send", "shop", "+15550000012", "x" * 70_000], 2, "the limit is 65536"),
        (["messages", "shop", "+15550000012"], 4, "there is no thread"),
        (["account", "pair", "nobody"], 4, "there is no account"),
        (["account", "restore", "nobody"], 4, "removed account not found"),
        (["outbox", "--state", "odd"], 2, "odd"),
    ],
)
async def test_bad_input_gets_a_clear_error(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    """One sentence, what to do, and the exit code."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        await daemon.call("accounts.add", name="shop", phone="+15550000001")
        done = await daemon.wadctl(*arguments)
        assert done.returncode == code, done
        assert says in done.stderr
        assert "Traceback" not in done.stderr


async def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    """The daemon ends with what is wrong, what to do, and the exit code; no traceback hides it."""
    daemon = Daemon(tmp_path, engine="simulator")
    with socket.create_server(("127.0.0.1", daemon.port)):
        done = await asyncio.to_thread(
            subprocess.run, daemon.command, env=daemon.environ, capture_output=True, text=True, check=False
        )  # fmt: skip
    assert done.returncode == 5, done
    assert f"wad: port {daemon.port} on 127.0.0.1 is in use\nhint: " in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_number_that_is_not_on_whatsapp(tmp_path: Path) -> None:
    """The message is refused; the next one is sent."""
    async with a_system(tmp_path) as system:
        await system.pair()
        with pytest.raises(NotOnWhatsApp):
            await system.daemon.call(
                "messages.send", account="shop", to="+15559999999", text="hi", wait=30
            )
        await system.daemon.call("messages.send", account="shop", to="+15550000012", text="hi")
        await system.bob.received(system.account, text="hi")


async def test_remove_and_restore_keep_the_session(tmp_path: Path) -> None:
    """A removed account is gone from the list; restored, it connects without a code."""
    async with a_system(tmp_path) as system:
        ident = (await system.pair())["id"]
        await system.daemon.wadctl_json("account", "remove", "shop", "--yes")
        assert await system.daemon.wadctl_json("account", "list") == []
        await system.daemon.wadctl_json("account", "restore", ident)
        await system.daemon.wait_state("shop", "connected")


async def test_restart_by_wadctl(tmp_path: Path) -> None:
    """Strict JSON, another process, the same accounts, connected again."""
    async with a_system(tmp_path) as system:
        await system.pair()
        done = await system.daemon.wadctl_json("restart")
        assert done["ok"] is True
        assert done["before"] != done["after"]
        assert done["accountsBefore"] == done["accountsAfter"] == 1
        await system.daemon.wait_state("shop", "connected")


async def test_health_shows_the_state(tmp_path: Path) -> None:
    """Health and readiness over HTTP, from the live objects."""

    def get(port: int, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    async with a_system(tmp_path) as system:
        await system.pair()
        health = await asyncio.to_thread(get, system.daemon.port, "/health")
        assert (health["ok"], health["waMode"], health["lockStatus"]) == (
            True,
            "active",
            "held_by_this_instance",
        )
        assert (health["accounts_total"], health["connected"], health["needs_qr"]) == (1, 1, 0)
        assert health["receipts"] == "after-store"
        ready = await asyncio.to_thread(get, system.daemon.port, "/ready")
        assert (ready["ready"], ready["mode"]) == (True, "active")
        await system.account.log_out()
        await system.daemon.wait_state("shop", "logged_out")
        health = await asyncio.to_thread(get, system.daemon.port, "/health")
        assert health["connected"] == 0


async def test_no_secret_and_no_text_in_the_log(tmp_path: Path) -> None:
    """A message's text and whole phone numbers never reach the log, not even at level debug."""
    async with a_system(tmp_path) as system:
        await system.daemon.end()
        system.daemon.environ |= {"WAD_LOG_LEVEL": "debug", "ADMIN_TOKEN": "very-secret-token"}
        await system.daemon.start()
        await system.pair()
        await system.receive("a private sentence")
        await system.daemon.call(
            "messages.send", account="shop", to="+15550000012", text="a private answer", wait=30
        )
        await system.daemon.end()
        log = system.daemon.log.read_text()
        for secret in ("private", "very-secret-token", "15550000012"):
            assert secret not in log


async def test_reload_changes_what_can_be_changed(tmp_path: Path) -> None:
    """SIGHUP reads the file again and applies the log level."""
    directory = tmp_path / "etc"
    directory.mkdir()
    file = directory / "wad.toml"
    file.write_text('[log]\nlevel = "error"\n')
    async with a_daemon(tmp_path, {"WAD_CONFIG": str(file)}, engine="simulator") as daemon:
        assert daemon.process is not None
        file.write_text('[log]\nlevel = "debug"\n')
        daemon.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(30):
            while "configuration" not in daemon.log.read_text():
                await asyncio.sleep(0.05)
