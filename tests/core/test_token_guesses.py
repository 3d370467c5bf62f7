"""Responses to wrong tokens are delayed; responses to valid tokens are not."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_daemon import http_settings
from wad.api.caller import Caller, CallOrigin
from wad.api.callers.authentication import Authenticator
from wad.core.errors import LegacyRefusal
from wad.core.token import Role, named
from wad.core.token_guesses import ADDRESS, LONGEST, TOTAL, Guesses, network

TOKEN = "wad_right"
SETTINGS = http_settings(tokens=str(named("ops", Role.ADMIN, TOKEN)))


class Time:
    """A clock that advances when a caller waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


async def asked(gate: Authenticator, token: str, address: str = "192.0.2.1") -> int:
    """200, or the status of the refusal."""
    try:
        caller = await gate.caller(CallOrigin(token, address=address))
    except LegacyRefusal as refusal:
        return refusal.http_status
    assert isinstance(caller, Caller)
    return 200


# --- the rule -------------------------------------------------------------------------------------


def test_few_wrong_tokens_cost_nothing() -> None:
    """An app whose token was replaced learns so at once."""
    guesses = Guesses(Time())
    assert [guesses.wrong("192.0.2.1") for _ in range(ADDRESS.free)] == [0.0] * ADDRESS.free


def test_the_pause_grows_to_its_longest() -> None:
    """It stays there."""
    guesses = Guesses(Time())
    pauses = []
    for _ in range(40):
        pauses.append(guesses.wrong("192.0.2.1"))
        if pauses[-1]:
            guesses.answered("192.0.2.1")
    late = [pause for pause in pauses if pause]
    assert late == sorted(late)
    assert (late[0], late[-1]) == (0.1, LONGEST)


def test_it_is_forgotten() -> None:
    """Minutes later a wrong token is as good as the first one."""
    time = Time()
    guesses = Guesses(time)
    for _ in range(1000):
        guesses.wrong("192.0.2.1")
    time.now += 60 * ADDRESS.most / ADDRESS.forgotten
    assert guesses.wrong("192.0.2.1") == 0.0


def test_another_address_is_counted_by_itself() -> None:
    """Until there are too many in total."""
    guesses = Guesses(Time())
    for _ in range(50):
        guesses.wrong("192.0.2.1")
    assert guesses.wrong("192.0.2.2") == 0.0


def test_many_addresses_are_counted_in_total() -> None:
    """Addresses of a botnet that guess once each wait as well."""
    guesses = Guesses(Time())
    pauses = [guesses.wrong(f"2001:db8:{number:x}::1") for number in range(400)]
    assert not any(pauses[: TOTAL.free])
    assert all(pause is None or pause > 0 for pause in pauses[TOTAL.free :])


def test_the_number_of_slots_is_small() -> None:
    """Delayed responses take memory: 16 per address, 64 in total."""
    guesses = Guesses(Time())
    pauses = [guesses.wrong("192.0.2.1") for _ in range(1000)]
    assert sum(bool(pause) for pause in pauses) == ADDRESS.slots == guesses.held
    assert pauses[-1] is None
    for number in range(1000):
        guesses.wrong(f"198.51.100.{number % 250}")
    assert guesses.held == TOTAL.slots
    guesses.answered("192.0.2.1")
    assert guesses.wrong("192.0.2.1")


@given(st.lists(st.tuples(st.integers(0, 9000), st.booleans(), st.floats(0, 30)), max_size=300))
def test_it_remembers_no_more_than_it_may(events: list[tuple[int, bool, float]]) -> None:
    """Whatever arrives, in whatever order, the counters stay within their bounds."""
    time = Time()
    guesses = Guesses(time)
    held: list[str] = []
    for number, release, passed in events:
        time.now += passed
        address = f"2001:db8:{number:x}::"
        if guesses.wrong(address):
            held.append(address)
        if release and held:
            guesses.answered(held.pop())
        assert guesses.held == len(held) <= TOTAL.slots
        assert guesses.known <= 4096


def test_addresses_are_forgotten_when_there_are_too_many() -> None:
    """The quiet ones first."""
    guesses = Guesses(Time())
    for number in range(6000):
        guesses.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert guesses.known == 4096


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "an unknown address"),
        ("testclient", "an unknown address"),
    ],
)
def test_addresses_that_are_counted_together(address: str, counted: str) -> None:
    """One customer's network of IPv6, and an address however it is written."""
    assert network(address) == counted


# --- at the gate ----------------------------------------------------------------------------------


async def test_a_valid_token_never_waits() -> None:
    """From the address that guesses, in the middle of it, and when all slots are taken."""
    time = Time()
    gate = Authenticator(SETTINGS, None, time, time.sleep)
    for number in range(300):
        assert await asked(gate, f"guess {number}") == 401
        waited = len(time.waited)
        assert await asked(gate, TOKEN) == 200
        assert len(time.waited) == waited
    assert sum(time.waited) > 250


async def test_guesses_at_once_wait_or_are_refused() -> None:
    """At most the number of slots; the others get 429, and the valid token its answer."""
    go = asyncio.Event()

    async def sleep(_: float) -> None:
        await go.wait()

    gate = Authenticator(SETTINGS, None, Time(), sleep)
    tasks = [asyncio.create_task(asked(gate, f"guess {number}")) for number in range(100)]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 100 - ADDRESS.slots:
        more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert await asked(gate, TOKEN) == 200
    go.set()
    statuses = sorted([await task for task in tasks])
    refused = 100 - ADDRESS.free - ADDRESS.slots
    assert statuses == [401] * (100 - refused) + [429] * refused


async def test_a_caller_that_disconnects_frees_its_slot() -> None:
    """A held answer that is cancelled is not held for ever."""

    async def cancelled(_: float) -> None:
        raise asyncio.CancelledError

    gate = Authenticator(SETTINGS, None, Time(), cancelled)
    for number in range(100):
        try:
            await asked(gate, f"guess {number}")
        except asyncio.CancelledError:
            continue
    assert gate._guesses.held == 0


async def test_a_missing_token_is_not_a_guess() -> None:
    """A browser before the login and a scraper without a token get their response at once."""
    time = Time()
    gate = Authenticator(SETTINGS, None, time, time.sleep)
    for _ in range(100):
        assert await asked(gate, "") == 401
    assert time.waited == []


async def test_it_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """How many, and from where most; never the token."""
    time = Time()
    gate = Authenticator(SETTINGS, None, time, time.sleep)
    with caplog.at_level(logging.WARNING):
        for number in range(60):
            await asked(gate, f"secret-guess-{number}")
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) <= 2
    assert "responses to" in lines[0]
    assert "from 192.0.2.1" in lines[0]
    assert "secret-guess" not in " ".join(lines)


async def test_a_token_that_can_be_guessed_is_named_when_it_is_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once; the configuration knows no more of it than its hash."""
    gate = Authenticator(SETTINGS, None, Time())
    with caplog.at_level(logging.WARNING):
        assert [await asked(gate, TOKEN) for _ in range(3)] == [200] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "token ops has fewer than 20 characters and can be guessed"
    ]
