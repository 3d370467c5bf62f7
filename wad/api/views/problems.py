"""What is wrong now, asked of the live objects at the moment of asking, without I/O.

Status, health, metrics, dashboard and doctor all show this list, so that none of them can know less than another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from wad.core.connection import State
from wad.core.problem import Problem, code_of, in_order
from wad.core.session_location import told

if TYPE_CHECKING:
    from wad.api.context import Context
    from wad.flow.accounts.account import Account
    from wad.lib.loops import Loop
    from wad.store.port import SyncStatus

_SLOW_S: Final = 60.0  # what waits longer than this is worth a word
_COVERED: Final = frozenset({"inbound"})
"""Loops whose failures the account itself tells."""
_SPECIAL: Final = {"leader": "lease_failing"}


def problems(context: Context) -> list[Problem]:
    """All of them, in the order in which they are shown."""
    found = [*_of_daemon(context), *_of_store(context), *_of_loops(context)]
    for account in context.accounts.all():
        found += problems_of(account)
    for place in context.accounts.elsewhere():
        code = code_of(State.ELSEWHERE)
        assert code is not None
        found.append(Problem(code=code, account=place.account, text=told(place)))
    return [context.noticed.dated(problem) for problem in in_order(found)]


def problems_of(account: Account) -> Iterator[Problem]:
    """What is wrong with an account: its state, what it received, what it tells itself."""
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
        text = f"what arrives cannot be stored: {inbound.error}"
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
    telling = context.store.telling
    if telling is None:
        return
    why = f": {telling.error}" if telling.error else ""
    oldest_ms, now_ms = telling.oldest_ms, context.clock.wall_ms()
    waited = 0.0 if oldest_ms is None else (now_ms - oldest_ms) / 1000
    if waited > _SLOW_S:
        text = f"{telling.waiting} documents wait to be told, the oldest for {waited:.0f} s{why}"
        yield Problem(
            code="firestore_behind",
            text=text,
            figures=(telling.waiting, waited),
            since_ms=oldest_ms,
        )
    elif why:
        text = f"{telling.waiting} documents wait to be told{why}"
        yield Problem(code="firestore_failing", text=text)
    yield from _of_quota(telling)


def _of_quota(telling: SyncStatus) -> Iterator[Problem]:
    if telling.waiting * 2 >= telling.quota:
        text = f"{telling.waiting} documents wait to be told; at {telling.quota} accounts stop"
        yield Problem(code="firestore_quota", text=text, figures=(telling.waiting, telling.quota))
    if telling.refused:
        text = f"{telling.refused} documents are refused there, and lie here only: wadctl quarantine list"
        yield Problem(code="firestore_refused", text=text, figures=(telling.refused,))


def _of_loops(context: Context) -> Iterator[Problem]:
    loops = context.loops
    hung, stuck = set(loops.hung), set(loops.stuck)
    for loop in loops.running:
        if loop in hung:
            text = f"{loop.name} has not turned for {loop.hung_for() or 0:.0f} s"
            yield _of_loop(context, loop, "loop_hung", text)
        elif loop in stuck and not (loop.failure and loop.name in _COVERED):
            why = loop.last_failure or "it turns and nothing comes of it"
            text = f"{loop.name} gets nowhere: {why}"
            yield _of_loop(context, loop, _SPECIAL.get(loop.name, "loop_stuck"), text)
        elif loop.failure and loop.name not in _COVERED:
            text = f"{loop.name} fails: {loop.failure}"
            yield _of_loop(context, loop, _SPECIAL.get(loop.name, "loop_failing"), text)
    if recent := loops.recent:
        last = recent[-1]
        text = f"{len(recent)} internal errors lately, the last in {last.name}: {last.text}"
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
    """A moment of the monotonic clock as ms since 1970."""
    clock = context.clock
    return clock.wall_ms() - round((clock.monotonic() - moment) * 1000)
