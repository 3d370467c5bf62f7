"""Traps of the library before and during a connection, as wad handles them.

See docs/internals/library.md#connecting-and-stopping.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.processes import gone
from tests.support.real_world import QUICK, STEADY, a_real_world
from tests.support.waiting import until
from wad.core.connection import RetryDelays, State
from wad.core.errors import EngineFailure
from wad.engine.worker import NeonizeWorker

pytestmark = pytest.mark.timeout(120)
PROBE_TIMEOUT = 2.0  # seconds of a probe's timeout: longer than a worker needs to start
RECONNECTS = 30


@asynccontextmanager
async def a_silent_proxy() -> AsyncIterator[str]:
    """It accepts connections, and sends nothing."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for writer in taken:
            writer.close()
        server.close()


async def test_a_dial_that_hangs_is_ended(tmp_path: Path) -> None:
    """Its own next attempt, then that of a new worker: each is killed, until one connects; no new scan is needed."""
    async with (
        a_real_world(tmp_path, probe_every=0.2, probe_timeout=PROBE_TIMEOUT) as world,
        world.lead(),
    ):
        line = await world.line()
        pid, world.server.stalling = line.pid, True
        await line.whatsapp.drop()
        for _ in range(2):
            await world.server.wait_stalled()
            await line.another_worker(pid)
            pid = line.pid
        assert line.wad.status.state is State.RECONNECTING
        assert "did not answer" in line.wad.status.reason
        logins, world.server.stalling = line.whatsapp.logins, False
        await line.connected(after=logins)


@pytest.mark.parametrize("how", ["stop", "lease"])
async def test_a_dial_that_hangs_can_be_stopped(tmp_path: Path, how: str) -> None:
    """By the operator and by the loss of the lease; the library's own stop would hang as well."""
    async with a_real_world(tmp_path, stop_timeout=0.3) as world:
        async with world.lead():
            line = await world.line()
            world.server.stalling = True
            line.wad.restart()
            await world.server.wait_stalled()
            pid = line.pid
            if how == "stop":
                await line.wad.stop()
                assert line.wad.status.state is State.STOPPED
        assert gone(pid)
        assert line.wad.worker is None


async def test_a_proxy_that_sends_nothing(tmp_path: Path) -> None:
    """The library would wait for a minute, and answer no probe during that time."""
    async with (
        a_silent_proxy() as proxy,
        a_real_world(tmp_path, proxy=proxy, probe_every=0.2, probe_timeout=PROBE_TIMEOUT) as world,
        world.lead(),
    ):
        line = await world.line(paired=False)
        await line.wad.pair()
        await until(lambda: line.wad.worker is not None, "a worker")
        await line.another_worker(line.pid)


async def test_a_missing_network_is_reported_briefly(tmp_path: Path) -> None:
    """The library gives up at the first failure; wad continues with new workers, and reports the problem."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        world.server.refusing = True
        line.wad.restart()
        await until(lambda: line.wad.restarts >= 3, "three workers")
        await until(lambda: "reach" in line.wad.status.reason, "the reason")
        assert line.wad.status.state is State.RECONNECTING
        assert line.wad.status.reason == "cannot reach WhatsApp: the connection broke off"
        logins, world.server.refusing = line.whatsapp.logins, False
        await line.connected(after=logins)


@pytest.mark.parametrize("delays", [STEADY, QUICK], ids=["one worker", "workers end"])
async def test_no_stream_error_ends_a_session(tmp_path: Path, delays: RetryDelays) -> None:
    """Whatever code the stream ends with, it logs in again without a new scan.

    None of them ends a worker either; only several short connections in a row do, which is wad's own rule.
    """
    async with a_real_world(tmp_path, delays=delays) as world, world.lead():
        line = await world.line()
        before, restarts = len(world.bus.history), line.wad.restarts
        for code in (401, 403, 405, 409, 500, 503, 515):
            logins = line.whatsapp.logins
            await line.whatsapp.end_stream(code)
            await line.connected(after=logins)
            ident = await line.bob.send_text(line.whatsapp, f"after {code}")
            assert (await line.stored([ident]))[ident] == 1
            assert line.wad.status.paired
        assert (line.wad.restarts == restarts) == (delays is STEADY)
        states = {h.detail["state"] for h in world.bus.history[before:] if h.kind == "state"}
        assert states == {"connected", "reconnecting"}


async def test_reconnects_cost_nothing(tmp_path: Path) -> None:
    """A connect in the same process leaks handles; the library's own reconnects don't, and wad makes no others."""
    async with a_real_world(tmp_path, delays=STEADY) as world, world.lead():
        line = await world.line()
        pid = line.pid

        async def reconnect() -> None:
            logins = line.whatsapp.logins
            await line.whatsapp.drop()
            await line.connected(after=logins)

        async def handles() -> int:
            await asyncio.sleep(0)
            return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())

        for _ in range(5):
            await reconnect()
        before = await handles()
        for _ in range(RECONNECTS):
            await reconnect()
        assert await handles() <= before + 2
        assert line.pid == pid
        os.kill(pid, signal.SIGTERM)  # and a new start uses another process
        await line.another_worker(pid)


async def test_a_connection_that_is_up_and_silent(tmp_path: Path) -> None:
    """Its socket is open and nothing answers: it does not count as connected, and does again after an answer."""
    async with a_real_world(tmp_path, pings=0.2) as world, world.lead():
        line = await world.line()
        line.whatsapp.silent = True
        await until(lambda: line.wad.status.state is State.RECONNECTING, "silence")
        assert line.wad.status.reason == "WhatsApp does not answer"
        assert line.whatsapp.online
        pid, line.whatsapp.silent = line.pid, False
        await line.until(State.CONNECTED)
        assert line.pid == pid


async def test_lasting_silence_replaces_the_worker(tmp_path: Path) -> None:
    """The library keeps a dead connection for minutes."""
    delays = replace(QUICK, library=3)
    async with a_real_world(tmp_path, pings=0.2, delays=delays) as world, world.lead():
        line = await world.line()
        pid = line.pid
        line.whatsapp.silent = True
        await until(lambda: line.wad.worker is None or line.pid != pid, "the worker's end")
        line.whatsapp.silent = False
        await line.until(State.CONNECTED)


async def test_queries_that_hang_block_nothing(tmp_path: Path) -> None:
    """The library waits 75 s for each: the worker still answers probes, receives, and can be stopped."""
    async with a_real_world(tmp_path, probe_every=0.1) as world, world.lead():
        line = await world.line()
        pid, worker = line.pid, line.wad.worker
        assert isinstance(worker, NeonizeWorker)
        line.whatsapp.answers_queries = False
        calls = [asyncio.create_task(worker.find_number(line.bob.pn.user)) for _ in range(6)]
        ident = await line.bob.send_text(line.whatsapp, "hello")
        await line.stored([ident])
        assert await worker._call("probe", timeout=5) is True
        assert line.pid == pid
        assert not any(call.done() for call in calls)
        await line.wad.stop()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(answer) for answer in answers} == {EngineFailure}
