"""Back-off: whatever a worker does, an account that does not stay connected is retried more and more slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.connection import (
    Banned,
    Begin,
    Connected,
    Due,
    Ended,
    Input,
    Launched,
    Lost,
    Pair,
    QrOver,
    QrShown,
    RetryDelays,
    State,
    Status,
    step,
)

DELAYS = RetryDelays()
HOUR = 3600.0

Run = Sequence[tuple[float, Input]]
"""A worker's reports, each with its delay in seconds; the list ends with an Ended, or repeats forever."""


@dataclass
class Trial:
    """An account, with scripted workers."""

    chance: float = 0.5
    now: float = 0.0
    status: Status = field(default_factory=Status)
    launches: int = 0
    logins: int = 0

    def handle(self, event: Input) -> None:
        """Handle one event."""
        if isinstance(event, Connected) and self.status.worker:
            self.logins += self.status.state is not State.CONNECTED
        self.status = step(self.status, event, self.now, self.chance, DELAYS)

    def _due(self) -> float | None:
        status = self.status
        times = (status.retry_at, status.worker_until, status.pair_until, status.settles_at)
        return min((at for at in times if at is not None), default=None)

    def _pass(self, until: float) -> None:
        """Let time pass; timers fire."""
        while (due := self._due()) is not None and due <= until:
            self.now = max(self.now, due)
            before = self.status
            self.handle(Due())
            if self.status == before:
                break
        self.now = max(self.now, until)

    def run(self, runs: Iterator[Run], seconds: float) -> None:
        """Launch a worker whenever one is requested, for this time."""
        end = self.now + seconds
        while self.now < end:
            if not self.status.worker:
                due = self._due()
                self._pass(end if due is None else min(due, end))
                continue
            self.launches += 1
            self.handle(Launched())
            self._run_worker(next(runs), end)

    def _run_worker(self, run: Run, end: float) -> None:
        for pause, event in run:
            self._pass(self.now + pause)
            if not self.status.worker or self.now >= end:
                self.handle(Ended("stopped"))
                return
            self.handle(event)
        if self.status.worker:
            self._pass(end)
        else:
            self.handle(Ended("stopped"))


def begun(chance: float = 0.5) -> Trial:
    """A paired account that requests its first worker."""
    trial = Trial(chance)
    trial.handle(Begin(paired=True))
    return trial


FLAPS: Run = [(0.1, Connected()), (0.1, Lost("gone"))] * 10_000
RUNS: dict[str, tuple[Run, int]] = {
    "dies at once": ([(0.5, Ended("crash"))], 40),
    "dies right after login": ([(0.4, Connected()), (0.4, Ended("crash"))], 40),
    "dies a little later": ([(0.4, Connected()), (59, Ended("crash"))], 30),
    "replaced by the probe each time": ([(1, Connected()), (30, Ended("did not answer"))], 35),
    "connects, lost, connects, lost": (FLAPS, 130),
    "lost at once, then dies": ([(0.4, Connected()), (0.0, Lost("x")), (0.1, Ended("crash"))], 130),
    "a ban of no time": ([(0.4, Connected()), (0.1, Banned(0.001, "ban")), (0, Ended("b"))], 40),
    "a negative ban": ([(0.4, Connected()), (0.1, Banned(-5, "ban")), (0, Ended("b"))], 40),
    "connected is reported twice": (
        [(0.4, Connected()), (1, Connected()), (1, Connected()), (0.4, Ended("crash"))],
        40,
    ),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_unstable_accounts_are_retried_ever_more_slowly(name: str, chance: float) -> None:
    """In an hour there are a few dozen logins, not four thousand."""
    run, most = RUNS[name]
    trial = begun(chance)
    trial.run(repeat(run), HOUR)
    assert 3 <= trial.launches <= most
    assert trial.logins <= most


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 59), st.booleans()), max_size=6), min_size=1, max_size=9
    ),
    st.floats(0, 0.999),
)
def test_short_lived_workers_never_make_it_spin(
    drawn: list[list[tuple[float, bool]]], chance: float
) -> None:
    """Connections of less than a minute each, however they end and in any mix."""

    def run(parts: list[tuple[float, bool]]) -> Run:
        reports: list[tuple[float, Input]] = []
        for pause, dies in parts:
            reports.append((0.0, Connected()))
            reports.append((pause, Ended("crash") if dies else Lost("gone")))
            if dies:
                break
        return (
            [*reports, (0.0, Ended("crash"))]
            if not reports or not isinstance(reports[-1][1], Ended)
            else reports
        )

    runs = [run(parts) for parts in drawn]
    trial = begun(chance)
    trial.run((runs[n % len(runs)] for n in range(10**6)), HOUR)
    assert trial.launches <= 150


def test_codes_that_expire_at_once_are_requested_with_pauses() -> None:
    """During the pairing window, a WhatsApp that sends no code is asked every five seconds."""
    trial = Trial()
    trial.handle(Begin(paired=False))
    trial.handle(Pair(600.0, paired=False))
    trial.run(repeat([(0.4, QrShown("code")), (0.0, QrOver()), (0.1, Ended("x"))]), 600.0)
    assert 3 <= trial.launches <= 121


def test_a_used_up_list_of_codes_is_not_a_failure() -> None:
    """Six codes last for 160 s; the next worker starts at once."""
    trial = Trial()
    trial.handle(Begin(paired=False))
    trial.handle(Pair(600.0, paired=False))
    shown: Run = [(0.4, QrShown("a")), (60, QrShown("b")), (60, QrShown("c")), (40, QrOver())]
    trial.run(repeat([*shown, (0.1, Ended("x"))]), 590.0)
    assert trial.status.attempts == 0
    assert trial.launches == 4


@pytest.mark.parametrize("seconds", [60.0, 61.0, HOUR, 100 * HOUR])
def test_after_a_stable_time_the_first_try_is_fast(seconds: float) -> None:
    """After a lost connection or a dead worker: at most a second, whatever happened before."""
    trial = begun()
    trial.run(repeat([(0.4, Connected()), (0.4, Ended("crash"))]), HOUR)
    trial.status = replace(trial.status, worker=True, retry_at=None)
    connected = step(trial.status, Connected(), trial.now, 0.5, DELAYS)
    died = step(connected, Ended("crash"), trial.now + seconds, 0.999, DELAYS)
    assert died.retry_at is not None
    assert died.retry_at - trial.now - seconds <= DELAYS.base
    lost = step(connected, Lost("gone"), trial.now + seconds, 0.999, DELAYS)
    assert lost.worker
    assert lost.attempts == 0


def test_the_count_of_failures_is_reset_automatically() -> None:
    """The status is correct a minute after the login, without another event."""
    trial = begun()
    trial.run(repeat([(0.4, Ended("crash"))]), 20.0)
    assert trial.status.attempts > 2
    trial.run(iter([[(0.4, Connected())]] * 9), 200.0)
    assert (trial.status.state, trial.status.attempts, trial.status.settles_at) == (
        State.CONNECTED,
        0,
        None,
    )


def test_the_first_losses_are_left_to_the_library() -> None:
    """It reconnects at once; the third in a row ends the worker, and the next one waits."""
    status = step(Status(), Begin(paired=True), 0, 0.5, DELAYS)
    workers = []
    for number in range(3):
        status = step(status, Connected(), number, 0.5, DELAYS)
        status = step(status, Lost("gone"), number + 0.5, 0.5, DELAYS)
        workers.append(status.worker)
    assert workers == [True, True, False]
    assert status.retry_at is not None
    assert status.retry_at > 2.5 + 1
    assert "3 times in a row" in status.reason
    ended = step(status, Ended("stopped"), 3.0, 0.5, DELAYS)
    assert (ended.retry_at, ended.reason) == (status.retry_at, status.reason)


def test_waiting_for_its_turn_does_not_shorten_a_workers_time() -> None:
    """A worker that is started late has as long to connect as any other."""
    waiting = step(Status(), Begin(paired=True), 0, 0.5, DELAYS)
    late = step(waiting, Launched(), 100, 0.5, DELAYS)
    assert late.worker_until == 100 + DELAYS.library
    assert step(late, Due(), 100 + DELAYS.library - 1, 0.5, DELAYS).worker


LATE: list[Callable[[], Input]] = [lambda: Launched(), lambda: Connected(), lambda: Lost("gone")]


@pytest.mark.parametrize("event", LATE)
def test_a_late_call_has_no_effect(event: Callable[[], Input]) -> None:
    """Of a worker that is not needed any more."""
    status = step(Status(), Begin(paired=False), 0, 0.5, DELAYS)
    assert step(status, event(), 1, 0.5, DELAYS) == status
