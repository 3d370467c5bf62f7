"""The current problems, collected from the live objects without I/O.

Status, health, metrics, dashboard and doctor all use this list, so that they always agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from wad.core.connection import State
from wad.core.problem import Problem, code_of, in_order
from wad.core.session_location import elsewhere_reason

if TYPE_CHECKING:
    from wad.api.context import Context
    from wad.flow.accounts.account import Account
    from wad.lib.loops import Loop
    from wad.store.port import SyncStatus

_SLOW_S: Final = 60.0  # waiting longer than this is a problem
_COVERED: Final = frozenset({"inbound"})
"""Loops whose failures the account itself reports."""
_SPECIAL: Final = {"leader": "lease_failing"}


def problems(context: Context) -> list[Problem]:
    """All problems, in the order in which they are shown."""
    found = [*_of_daemon(context), *_of_store(context), *_of_loops(context)]
    for account in context.accounts.all():
        found += problems_of(account)
    for location in context.accounts.elsewhere():
        code = code_of(State.ELSEWHERE)
        assert code is not None
        found.append(Problem(code=code, account=location.account, text=elsewhere_reason(location)))
    return [context.problem_times.dated(problem) for problem in in_order(found)]


def problems_of(account: Account) -> Iterator[Problem]:
    """The problems of an account: its state, its inbound pipeline, and those that it reports itself."""
    status, inbound, clock = account.status, account.inbound, account.clock
    now_ms = clock.wall_ms()
    if (code := code_of(status.state)) is not None:
        yield Problem(
            code=code,
            account=account.id,
            text=f"{status.state}: {status.reason}",
            since_ms=now_ms - round((clock.monotonic() - status.since) * 1000),
        )
    if inbound.error:
        text = f"received messages cannot be stored: {inbound.error}"
        yield Problem(code="unstored", account=account.id, text=text)
    if inbound.oldest_ms is not None and (waited := (now_ms - inbound.oldest_ms) / 1000) > _SLOW_S:
        text = f"a received message has waited {waited:.0f} s to be stored"
        yield Problem(code="slow_store", account=account.id, text=text, figures=(waited,))
    yield from account.problems


def _of_daemon(context: Context) -> Iterator[Problem]:
    if context.sessions_writable is False:
        directory = context.loaded.config.state.sessions
        yield Problem(code="sessions_unwritable", text=f"{directory} cannot be written")
    for text in context.warnings:
        yield Problem(code="notice", text=text, subject=text)
    yield from context.findings


def _of_store(context: Context) -> Iterator[Problem]:
    yield from context.store.problems()
    sync = context.store.sync_status
    if sync is None:
        return
    reason = f": {sync.error}" if sync.error else ""
    oldest_ms, now_ms = sync.oldest_ms, context.clock.wall_ms()
    waited = 0.0 if oldest_ms is None else (now_ms - oldest_ms) / 1000
    if waited > _SLOW_S:
        text = f"{sync.waiting} documents wait for upload, the oldest for {waited:.0f} s{reason}"
        yield Problem(
            code="firestore_behind",
            text=text,
            figures=(sync.waiting, waited),
            since_ms=oldest_ms,
        )
    elif reason:
        text = f"{sync.waiting} documents wait for upload{reason}"
        yield Problem(code="firestore_failing", text=text)
    yield from _of_quota(sync)


def _of_quota(sync: SyncStatus) -> Iterator[Problem]:
    if sync.waiting * 2 >= sync.quota:
        text = f"{sync.waiting} documents wait for upload; at {sync.quota} the accounts stop"
        yield Problem(code="firestore_quota", text=text, figures=(sync.waiting, sync.quota))
    if sync.refused:
        text = f"Firestore refused {sync.refused} documents, which exist only here: wadctl quarantine list"
        yield Problem(code="firestore_refused", text=text, figures=(sync.refused,))


def _of_loops(context: Context) -> Iterator[Problem]:
    loops = context.loops
    hung, stuck = set(loops.hung), set(loops.stuck)
    for loop in loops.running:
        if loop in hung:
            text = f"{loop.name} has not run for {loop.hung_for() or 0:.0f} s"
            yield _of_loop(context, loop, "loop_hung", text)
        elif loop in stuck and not (loop.failure and loop.name in _COVERED):
            reason = loop.last_failure or "it runs without a result"
            text = f"{loop.name} makes no progress: {reason}"
            yield _of_loop(context, loop, _SPECIAL.get(loop.name, "loop_stuck"), text)
        elif loop.failure and loop.name not in _COVERED:
            text = f"{loop.name} fails: {loop.failure}"
            yield _of_loop(context, loop, _SPECIAL.get(loop.name, "loop_failing"), text)
    if recent := loops.recent:
        last = recent[-1]
        text = f"{len(recent)} recent internal errors, the last in {last.name}: {last.text}"
        yield Problem(
            code="internal_error", text=text, figures=(len(recent),),
            since_ms=_wall(context, recent[0].at),
        )  # fmt: skip


def _of_loop(context: Context, loop: Loop, code: str, text: str) -> Problem:
    since = loop.last_turn if code == "loop_hung" else loop.failing_since
    return Problem(
        code=code,
        text=text,
        account=loop.account,
        subject=loop.name,
        since_ms=None if since is None else _wall(context, since),
    )


def _wall(context: Context, moment: float) -> int:
    """A time of the monotonic clock as ms since 1970."""
    clock = context.clock
    return clock.wall_ms() - round((clock.monotonic() - moment) * 1000)
