"""A power cut leaves files of 0 bytes: with any one of the state's wad starts, acts, and names what is wrong."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import TIMEOUT, Daemon
from tests.support.real_world import a_real_world
from tests.support.waiting import until
from wad.api.views.problems import problems_of
from wad.core.connection import State

pytestmark = pytest.mark.timeout(180)

ACCOUNT = "acc-15550000001"
FILES = {
    "wad.db": {"store_anew"},
    "lease.json": {"set_aside"},
    "lease-history.jsonl": {"set_aside"},
    f"sessions/.cards/{ACCOUNT}.json": {"set_aside", "stopped_unsure"},
    f"sessions/{ACCOUNT}/spool.db": {"inbox_gap"},
    f"sessions/{ACCOUNT}/account.json": set(),
    "wad.lock": set(),
}
"""Each file, and the kinds of problems that are there after it was cut."""

LOAD = {"event_loop_slow", "disk_slow", "slow_store"}
"""Problems of a busy machine."""


def cut(file: Path) -> None:
    """Truncate a file to zero bytes, with the log that would repair it."""
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(b"")


async def problems(daemon: Daemon) -> set[str]:
    """The kinds of problems in status, which are those of /health and of /metrics."""
    status = await daemon.wadctl_json("status")
    found = {one["code"] for one in status["problems"]} - LOAD

    def get(path: str) -> str:
        url = f"http://127.0.0.1:{daemon.port}{path}"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            return str(answer.read().decode())

    health: dict[str, Any] = json.loads(await asyncio.to_thread(get, "/health"))
    lines = (await asyncio.to_thread(get, "/metrics")).splitlines()
    counted = {
        line.partition('code="')[2].partition('"')[0]
        for line in lines
        if line.startswith("wad_problem{") and not line.endswith(" 0.0")
    }
    assert {one["code"] for one in health["problems"]} - LOAD == counted - LOAD == found
    return found


async def until_connected(daemon: Daemon) -> None:
    """Wait until the account is, or rests because it is unknown whether it should run."""
    await daemon.wait_account(
        ACCOUNT, lambda shown: shown["state"] in ("connected", "stopped"), "rest"
    )


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """An installation with an account that has received something, ended."""
    daemon = Daemon(tmp_path_factory.mktemp("state"), engine="simulator")

    async def begin() -> None:
        await daemon.start()
        await daemon.call("accounts.add", name="shop", phone="+15550000001")
        await daemon.call("accounts.pair", account="shop")
        await daemon.wait_state("shop", "connected")
        sent = await daemon.call("messages.send", account="shop", to="+15550000002", text="x")
        assert sent
        async with asyncio.timeout(TIMEOUT):
            while (await daemon.call("outbox.list", account="shop"))["entries"][0]["state"] != (
                "delivered"
            ):
                await asyncio.sleep(0.02)
        await daemon.end()

    asyncio.run(begin())
    yield daemon
    if daemon.process is not None:
        daemon.process.kill()
        daemon.process.wait()


@pytest.mark.parametrize("file", FILES)
async def test_a_file_of_the_state_that_is_cut_is_named(state: Daemon, file: str) -> None:
    """In status, health and metrics, also after another start; the account continues, and nothing else is wrong."""
    place = state.state / file
    kept = {path: path.read_bytes() for path in state.state.rglob("*") if path.is_file()}
    assert place in kept
    cut(place)
    try:
        for _ in range(2):
            await state.start()
            await until_connected(state)
            found: set[str] = set()
            try:
                async with asyncio.timeout(TIMEOUT):
                    while (found := await problems(state)) != FILES[file]:
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise AssertionError(f"{found}, not {FILES[file]}") from None
            await state.end()
    finally:
        if state.process is not None:
            state.process.kill()
            state.process.wait()
        for path in list(state.state.rglob("*")):
            if path.is_file() and path not in kept:
                path.unlink()
        for path, data in kept.items():
            path.write_bytes(data)


async def test_every_file_of_the_state_was_cut(state: Daemon) -> None:
    """One that is added later is checked as well; a simulated session is not a database."""
    found = {
        str(path.relative_to(state.state)) for path in state.state.rglob("*") if path.is_file()
    }
    made = {name for name in found if not name.endswith(("-wal", "-shm"))}
    assert made <= {*FILES, f"sessions/{ACCOUNT}/session.db", "control.lock"}


# --- the session, with the real library -------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
async def test_a_session_that_is_cut_is_named(tmp_path: Path, log: bool) -> None:
    """The account is logged out, with the reason; the file and its log are set aside for repair."""
    async with a_real_world(tmp_path) as world:
        async with world.lead():
            line = await world.line()
            file = line.wad.account_dir.session_db
            beside = file.with_name("session.db-wal")
            data = beside.read_bytes()
            assert data
        cut(file)
        if log:
            beside.write_bytes(data)
        async with world.lead(2):
            ends = (State.LOGGED_OUT, State.FAILED)
            await until(lambda: line.wad.status.state in ends, "it is at rest")
            codes = {one.code for one in problems_of(line.wad)}
            if log:
                assert {"account_failed", "set_aside"} <= codes
                (aside,) = file.parent.glob("session.db.damaged-*-wal")
                assert aside.read_bytes() == data
            else:
                assert "account_logged_out" in codes
                assert "the session file was removed" in line.wad.status.reason
