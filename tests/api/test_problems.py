"""One list of problems: status, health, metrics, dashboard and doctor say the same, and strangers read no name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.test_metrics import samples
from tests.audit.test_doctor_rules import HEALTHY
from tests.support.fake_daemon import OPERATOR, FakeAccount, FakeDaemon
from tests.support.waiting import TIMEOUT, until
from wad.api.operations.daemon import NoParams, status
from wad.api.views.dashboard import dashboard
from wad.api.views.health import health
from wad.api.views.problems import problems
from wad.audit.doctor import rules_host
from wad.audit.doctor.finding import Outcome
from wad.core.connection import State
from wad.core.errors import Unavailable
from wad.core.problem import KINDS, STATES, Problem, ProblemTimes, by_code
from wad.core.session_location import SessionLocation
from wad.lib.loops import Loop
from wad.store.port import SyncStatus

SECRET = "acc-15550000001 Shop /var/lib/wad"
"""A text that callers without a token may not read."""


@st.composite
def found(draw: st.DrawFn, account: str = "") -> Problem:
    """A problem as a source may report it."""
    return Problem(
        code=draw(st.sampled_from(sorted(KINDS))),
        text=SECRET,
        account=account,
        subject=draw(st.sampled_from(["", SECRET])),
        figures=(draw(st.floats(0, 1e9)), draw(st.floats(0, 1e9))),
        since_ms=draw(st.none() | st.integers(0, 2**41)),
    )


class World:
    """A daemon in any state, and its loops, which go on until it is left."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.daemon = FakeDaemon()
        self._draw = draw
        self._tasks: list[asyncio.Task[None]] = []

    def arrange(self) -> None:
        """Anything that a source of problems may say."""
        draw, daemon = self._draw, self.daemon
        daemon.sessions_writable = draw(st.sampled_from([True, False, None]))
        daemon.warnings = draw(st.lists(st.just(SECRET), max_size=1))
        daemon.findings = draw(st.lists(found(), max_size=3))
        for number in range(draw(st.integers(0, 3))):
            self._account(daemon.accounts.have(f"acc-1555000000{number}"))
        if draw(st.booleans()):
            place = SessionLocation(
                account="acc-15550000009", instance="host-b", since_ms=0, name="Shop"
            )
            daemon.accounts.locations.append(place)
        if draw(st.booleans()):
            daemon.store.sync_status = SyncStatus(
                waiting=draw(st.integers(0, 200)),
                oldest_ms=draw(st.none() | st.integers(0, daemon.clock.wall)),
                refused=draw(st.integers(0, 2)),
                quota=100,
                error=draw(st.sampled_from(["", SECRET])),
            )
        for name in draw(st.lists(st.sampled_from(["leader", "inbound", "pulse"]), unique=True)):
            self._loop(name)
        if draw(st.booleans()):
            daemon.loops.note("request", KeyError(SECRET))

    def _account(self, account: FakeAccount) -> None:
        draw = self._draw
        account.become(draw(st.sampled_from(State)), SECRET)
        account.inbound.error = draw(st.sampled_from(["", SECRET]))
        account.inbound.oldest_ms = draw(st.none() | st.integers(0, self.daemon.clock.wall))
        account.problems = draw(st.lists(found(account.id), max_size=2))

    def _loop(self, name: str) -> None:
        error: Exception = Unavailable(SECRET) if self._draw(st.booleans()) else KeyError(SECRET)

        async def body(loop: Loop) -> None:
            await loop.failed(error, pause=3600)

        account = self._draw(st.sampled_from(["", "acc-15550000000"]))
        self._tasks.append(self.daemon.loops.start(name, body, account=account))

    async def settle(self) -> None:
        """Until the loops have failed."""
        async with asyncio.timeout(TIMEOUT):
            while len(self.daemon.loops.failing) < len(self._tasks):
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End the loops."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@given(st.data())
def test_all_that_look_see_the_same_problems(data: st.DataObject) -> None:
    """Status, health, metrics, dashboard and doctor know each of them; healthy is healthy everywhere."""

    async def update() -> None:
        world = World(data.draw)
        world.arrange()
        try:
            await world.settle()
            await check(world.daemon)
        finally:
            await world.close()

    async def check(daemon: FakeDaemon) -> None:
        shown = msgspec.to_builtins(await status(daemon, NoParams(), OPERATOR))
        public, read = health(daemon), samples(daemon)
        kinds = {code: len(each) for code, each in by_code(problems(daemon)).items()}
        assert {p["code"] for p in shown["problems"]} == set(kinds)
        assert len(shown["problems"]) == sum(kinds.values())
        assert {p["code"]: p["count"] for p in public["problems"]} == kinds
        assert {code: read["wad_problem", code] for code in KINDS} == dict.fromkeys(
            KINDS, 0
        ) | kinds
        ill = any(KINDS[code].degrades for code in kinds)
        expected = "degraded" if ill else "healthy"
        assert shown["health"] == public["status"] == expected
        assert dashboard(daemon)["service"]["status"] == expected
        assert read[("wad_healthy",)] == (not ill)
        assert bool(public["reasons"]) is ill
        doctor = rules_host.daemon(
            replace(HEALTHY, daemon=shown | {"version": HEALTHY.version, "engine": "neonize"})
        )
        assert (doctor.outcome is Outcome.WARN) is bool(set(kinds) - STATES)

    asyncio.run(update())


@given(st.data())
def test_strangers_read_no_name_number_or_path(data: st.DataObject) -> None:
    """Whatever a problem's text says."""
    daemon = FakeDaemon()
    account = daemon.accounts.have("acc-15550000001")
    account.problems = data.draw(st.lists(found("acc-15550000001"), max_size=5))
    daemon.findings = data.draw(st.lists(found(), max_size=5))
    account.become(State.FAILED, SECRET)
    text = json.dumps(health(daemon))
    assert not [word for word in SECRET.split() if word in text]


@pytest.mark.parametrize("code", KINDS)
def test_every_kind_has_its_sentences(code: str) -> None:
    """For one and for several, without a gap; each has a hint, that of an account's state is in the state itself."""
    one = Problem(code=code, text="x", figures=(1.0, 2.0))
    for found in ([one], [one, one]):
        sentence = KINDS[code].sentence(found)
        assert sentence
        assert "{" not in sentence
    assert KINDS[code].hint or code in STATES


def test_a_problem_is_dated_by_when_it_was_noticed_first() -> None:
    """Until it is over; what dates itself is believed."""
    problem_times, held = ProblemTimes(), Problem(code="held", text="x", account="a")
    assert problem_times.dated(held).since_ms is None
    problem_times.update([held], 1000)
    problem_times.update([held], 2000)
    assert problem_times.dated(held).since_ms == 1000
    assert problem_times.dated(msgspec.structs.replace(held, since_ms=5)).since_ms == 5
    problem_times.update([], 3000)
    assert problem_times.dated(held).since_ms is None


async def test_health_recovers_when_the_loop_works_again() -> None:
    """Degraded while it fails, healthy at the next success."""
    daemon, go = FakeDaemon(), asyncio.Event()

    async def body(loop: Loop) -> None:
        if not loop.last_failure:
            raise KeyError
        loop.progress()
        await go.wait()

    task = daemon.loops.start("publishing", body)
    await until(lambda: daemon.loops.failing, "the failure")
    assert health(daemon)["reasons"] == [
        "background tasks of the daemon that fail and are retried: 1"
    ]
    daemon.loops.running[0].retry_now()
    await until(lambda: health(daemon)["status"] == "healthy", "health")
    go.set()
    await task


def test_internal_errors_of_requests_are_a_reason_for_five_minutes() -> None:
    """The counter stays, the reason is removed."""
    daemon: Any = FakeDaemon()
    daemon.loops.note("status", KeyError())
    assert health(daemon)["reasons"] == ["internal errors in the last five minutes: 1"]
    daemon.clock.now += 301
    assert health(daemon)["status"] == "healthy"


@pytest.mark.parametrize("code", sorted(set(KINDS) - STATES))
def test_the_manual_has_every_kind(code: str) -> None:
    """With the text of `wadctl status`."""
    manual = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text()
    (row,) = [line for line in manual.splitlines() if line.startswith(f"| `{code}`")]
    assert KINDS[code].hint in row
