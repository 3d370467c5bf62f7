"""WhatsApp's refusals, as the real library reports them and wad interprets them.

See docs/internals/library.md#refusals.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.real_world import QUICK, Line, a_real_world
from tests.support.waiting import until
from tests.whatsapp.account import Failure
from wad.core.connection import State

pytestmark = pytest.mark.timeout(120)


async def refused(line: Line, failure: Failure, state: State) -> None:
    """A new worker's login is refused; wait until wad has detected it, and the worker has ended."""
    line.whatsapp.login_failure = failure
    line.wad.restart()
    await line.until(state)
    await no_worker(line)


async def no_worker(line: Line) -> None:
    """Wait until the worker has ended."""
    await until(lambda: line.wad.worker is None and not line.wad.status.worker, "the worker's end")


def pause(line: Line) -> float | None:
    """Seconds until the next attempt."""
    status = line.wad.status
    return None if status.retry_at is None else status.retry_at - line.wad.clock.monotonic()


@pytest.mark.parametrize("reason", [401, 403, 406])
async def test_logged_out(tmp_path: Path, reason: int) -> None:
    """The library has deleted the keys: it waits for the operator, who may pair it again."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        await refused(line, Failure(reason), State.LOGGED_OUT)
        assert pause(line) is None
        assert line.wad.status.action == "wadctl account pair ACCOUNT"
        line.whatsapp.login_failure = None
        await line.pair()


async def test_replaced_is_not_fought(tmp_path: Path) -> None:
    """It stays disconnected until the operator, or a newly acquired lease, confirms that the session is ours."""
    async with a_real_world(tmp_path) as world:
        async with world.lead():
            line = await world.line()
            await line.whatsapp.replace()
            await line.until(State.REPLACED)
            await no_worker(line)
            assert pause(line) is None
            logins = line.whatsapp.logins
            await line.wad.start()
            await line.connected(after=logins)
            await line.whatsapp.replace()
            await line.until(State.REPLACED)
            await no_worker(line)
            logins = line.whatsapp.logins
        async with world.lead(2):
            await line.connected(after=logins)


async def test_banned_until(tmp_path: Path) -> None:
    """It reports until when, waits for that, and connects again automatically."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        begun = datetime.now(UTC)
        await line.whatsapp.ban(code=104, seconds=3600)
        await line.until(State.BANNED)
        await no_worker(line)
        left = pause(line)
        assert left is not None
        assert 3500 < left <= 3600
        times = [begun + timedelta(hours=1, seconds=n) for n in range(60)]
        text = "banned until {:%Y-%m-%d %H:%M:%S} UTC (sent_too_many_same_message)"
        assert line.wad.status.reason in [text.format(time) for time in times]
        # The operator reconnects too early; WhatsApp answers that a second is left.
        line.whatsapp.login_failure = Failure(402, code=101, expire=1)
        line.wad.restart()
        await until(lambda: "too_many_people" in line.wad.status.reason, "the shorter ban")
        line.whatsapp.login_failure = None
        await line.until(State.CONNECTED)


async def test_a_ban_that_the_library_does_not_know(tmp_path: Path) -> None:
    """It cannot hand the event over and fails; it counts as a ban all the same, with a long delay."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        await refused(line, Failure(402, code=199, expire=60), State.BANNED)
        left = pause(line)
        assert left is not None
        assert 800 < left <= 900


async def test_outdated(tmp_path: Path) -> None:
    """It reports which version was refused and what to upgrade, retries slowly, and then connects."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        await refused(line, Failure(405), State.OUTDATED)
        assert "0.5.2, WhatsApp Web 2.3000." in line.wad.status.reason
        assert "upgrade wad" in line.wad.status.action
        left = pause(line)
        assert left is not None
        assert 1700 < left <= 3600
        assert line.wad.status.paired


async def test_no_longer_outdated(tmp_path: Path) -> None:
    """When WhatsApp accepts the version after all, the next slow attempt connects."""
    async with (
        a_real_world(tmp_path, delays=replace(QUICK, outdated=0.1)) as world,
        world.lead(),
    ):
        line = await world.line()
        line.whatsapp.login_failure = Failure(405)
        line.wad.restart()
        await line.until(State.OUTDATED)
        line.whatsapp.login_failure = None
        await line.until(State.CONNECTED)


async def test_a_login_that_is_refused_for_other_reasons(tmp_path: Path) -> None:
    """Known to the library or not, temporary or not: it is an outage, and no new scan is needed."""
    async with a_real_world(tmp_path) as world, world.lead():
        line = await world.line()
        for reason in (400, 409, 415, 503):
            logins, line.whatsapp.login_failure = line.whatsapp.logins, Failure(reason)
            line.wad.restart()
            await line.until(State.RECONNECTING)
            await until(lambda: "restarting" not in line.wad.status.reason, "the reason")
            assert line.wad.status.paired
            line.whatsapp.login_failure = None
            await line.connected(after=logins)
