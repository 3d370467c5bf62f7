"""One request for all waiting clients: the rule over any order of events, and the code that applies it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.http.test_daemon_client import FakeDaemon as FakeSocket
from tests.http.test_daemon_client import Peer, a_link
from tests.support.fake_daemon import FakeDaemon
from tests.support.http_client import Reply, ask
from tests.support.serving import serve_http
from wad.api import dispatch
from wad.core import wire
from wad.core.errors import Conflict, Stopping, WadError
from wad.http import daemon_client as link_module
from wad.http.sharing import FlightRule, SingleFlight
from wad.lib.clock import SystemClock

WITHIN = 2.0


class AnyOrder(RuleBasedStateMachine):
    """Arrivals, answers, failures, leaving and time in any order; `due` and `asked` are the rule's inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.rule = FlightRule[int](WITHIN)
        self.now = 0.0
        self.turn = 0  # counts events: two of them may be at the same time
        self.waiting: dict[int, tuple[float, int]] = {}  # since when, and in which turn it came
        self.asked_in: int | None = None
        self.due = False
        self.number = 0

    @rule()
    def arrives(self) -> None:
        """A client waits for an answer."""
        self.turn += 1
        self.number += 1
        due = self.rule.arrive(self.number, self.now)
        assert due is (not self.due and self.asked_in is None)
        self.due |= due
        self.waiting[self.number] = self.now, self.turn

    @precondition(lambda self: self.due)
    @rule()
    def begins(self) -> None:
        """The request is sent."""
        self.turn += 1
        self.due, self.asked_in = False, self.turn
        if not self.rule.begin():
            assert not self.waiting
            self.ends()

    @precondition(lambda self: self.asked_in is not None)
    @rule()
    def ends(self) -> None:
        """It is answered, or fails: it is shared by clients that waited before it was sent, and none gets two."""
        self.turn += 1
        asked_in, self.asked_in = self.asked_in, None
        assert asked_in is not None
        shared, self.due = self.rule.end()
        assert set(shared) == {w for w, (_, came) in self.waiting.items() if came < asked_in}
        for waiter in shared:
            del self.waiting[waiter]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        """A client gives up; a request without waiting clients is abandoned."""
        self.turn += 1
        waiter = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[waiter]
        if self.rule.leave(waiter):
            assert self.asked_in is not None
            assert all(came > self.asked_in for _, came in self.waiting.values())
            self.ends()

    @rule(seconds=st.sampled_from((0.0, 0.5, 1.9, 2.0, 5.0)))
    def time_passes(self, seconds: float) -> None:
        """A client that has waited too long gets a timeout, and no other does."""
        self.turn += 1
        self.now += seconds
        late, abandoned = self.rule.late(self.now)
        assert set(late) == {
            w for w, (since, _) in self.waiting.items() if since <= self.now - WITHIN
        }
        for waiter in late:
            del self.waiting[waiter]
        if abandoned:
            self.ends()

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """While a client waits the request is due or sent, and a deadline is known."""
        assert not self.waiting or self.due or self.asked_in is not None
        first = min((since for since, _ in self.waiting.values()), default=None)
        assert self.rule.deadline == (None if first is None else first + WITHIN)

    @invariant()
    def one_is_enough(self) -> None:
        """All clients that wait now are answered by the current request and the next one."""
        assert not (self.due and self.asked_in is not None)


TestAnyOrder = AnyOrder.TestCase


class HeldQuestion:
    """A request that waits until the test answers it."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


async def turns(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


async def test_later_clients_get_the_next_answer() -> None:
    """A thousand at once share one request, a thousand later ones the next: never an older answer."""
    question = HeldQuestion()
    shared = SingleFlight(question, None, SystemClock())
    first = [asyncio.create_task(shared.answer()) for _ in range(1000)]
    await turns(lambda: question.asked)
    later = [asyncio.create_task(shared.answer()) for _ in range(1000)]
    await asyncio.sleep(0)
    assert len(question.asked) == 1
    question.asked[0].set_result("old")
    assert set(await asyncio.gather(*first)) == {"old"}
    await turns(lambda: len(question.asked) == 2)
    assert not any(task.done() for task in later)
    question.asked[1].set_result("new")
    assert set(await asyncio.gather(*later)) == {"new"}
    assert len(question.asked) == 2


async def test_a_failure_is_shared() -> None:
    """By the clients of that request; the next request is sent all the same."""
    question = HeldQuestion()
    shared = SingleFlight(question, None, SystemClock())
    first = [asyncio.create_task(shared.answer()) for _ in range(3)]
    await turns(lambda: question.asked)
    later = asyncio.create_task(shared.answer())
    await asyncio.sleep(0)
    question.asked[0].set_exception(Conflict("no"))
    found = await asyncio.gather(*first, return_exceptions=True)
    assert [type(each) for each in found] == [Conflict] * 3
    await turns(lambda: len(question.asked) == 2)
    question.asked[1].set_result("yes")
    assert await later == "yes"


async def test_a_request_times_out() -> None:
    """Without an answer in time it is abandoned, and a new one is sent for later clients."""
    question = HeldQuestion()
    shared = SingleFlight(question, 0.2, SystemClock())
    with pytest.raises(TimeoutError):
        await shared.answer()
    await turns(question.asked[0].cancelled)
    later = asyncio.create_task(shared.answer())
    await turns(lambda: len(question.asked) == 2)
    question.asked[1].set_result("at last")
    assert await later == "at last"


async def test_a_cancelled_client_affects_no_other() -> None:
    """When all are cancelled the request ends, and a new one is sent for later clients."""
    question = HeldQuestion()
    shared = SingleFlight(question, None, SystemClock())
    one, two = (asyncio.create_task(shared.answer()) for _ in range(2))
    await turns(lambda: question.asked)
    one.cancel()
    await asyncio.wait((one,))
    assert not question.asked[0].done()
    two.cancel()
    await asyncio.wait((two,))
    await turns(question.asked[0].cancelled)
    three = asyncio.create_task(shared.answer())
    await turns(lambda: len(question.asked) == 2)
    question.asked[1].set_result("again")
    assert await three == "again"


# --- over a connection ----------------------------------------------------------------------------

CALL = wire.EncodedCall("probe.health", [{}, []])


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts of fractions of a second."""
    monkeypatch.setattr(link_module, "SILENCE", 0.3)
    monkeypatch.setattr(link_module, "STOPPING", 20.0)


async def test_a_crowd_is_one_request(tmp_path: Path) -> None:
    """Five hundred at once."""

    async def answer(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Response(request.id, None, request.method))

    fake = FakeSocket(tmp_path / "s", answer)
    async with fake.running(), a_link(fake.path) as link:
        found = await asyncio.gather(*(link.share(CALL, within=20) for _ in range(500)))
    assert set(found) == {"probe.health"}
    assert fake.asked == ["probe.health"]


@pytest.mark.usefixtures("short_timeouts")
async def test_a_silent_daemon_is_unreachable_for_each(tmp_path: Path) -> None:
    """Each gets the error after its own timeout."""

    async def silence(peer: Peer, request: wire.Request) -> None:
        pass

    async def refused(pause: float) -> str:
        await asyncio.sleep(pause)
        with pytest.raises(WadError) as caught:
            await link.share(CALL, within=link_module.SILENCE)
        return caught.value.code

    fake = FakeSocket(tmp_path / "s", silence)
    async with fake.running(), a_link(fake.path) as link:
        pauses = [number * 0.05 for number in range(20)]
        codes = await asyncio.gather(*map(refused, pauses))
    assert set(codes) == {"daemon_unreachable"}
    assert len(fake.asked) <= 6  # one at a time


@pytest.mark.usefixtures("short_timeouts")
async def test_a_daemon_that_stops_is_waited_for(tmp_path: Path) -> None:
    """By all clients of the refused request; then they share the one to its successor."""

    async def stops(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Notice("stopping", []))
        await peer.say(wire.Response(request.id, Stopping("the daemon is stopping"), None))

    async def answers(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Response(request.id, None, "the next one"))

    fake = FakeSocket(tmp_path / "s", stops)
    async with a_link(fake.path) as link:
        async with fake.running():
            asking = [asyncio.create_task(link.share(CALL, within=20)) for _ in range(100)]
            while not fake.asked:
                await asyncio.sleep(0.01)
        fake.answer = answers
        fake.asked.clear()
        async with fake.running():
            assert set(await asyncio.gather(*asking)) == {"the next one"}
    assert len(fake.asked) < 10


@pytest.mark.usefixtures("short_timeouts")
async def test_a_request_is_repeated_after_a_lost_connection(tmp_path: Path) -> None:
    """All clients of the request share the one on the next connection."""

    async def hangs_up(peer: Peer, request: wire.Request) -> None:
        fake.answer = answers
        peer.writer.close()

    async def answers(peer: Peer, request: wire.Request) -> None:
        await peer.say(wire.Response(request.id, None, "yes"))

    fake = FakeSocket(tmp_path / "s", hangs_up)
    async with fake.running(), a_link(fake.path) as link:
        found = await asyncio.gather(*(link.share(CALL, within=20) for _ in range(100)))
    assert set(found) == {"yes"}
    assert len(fake.asked) < 10


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that the daemon gets."""
    found: list[str] = []
    usual: Callable[..., Awaitable[Any]] = dispatch.call

    async def call(context: Any, name: str, *more: Any) -> object:
        found.append(name)
        return await usual(context, name, *more)

    monkeypatch.setattr(dispatch, "call", call)
    return found


@pytest.mark.parametrize(
    ("path", "name"), [("/health", "probe.health"), ("/metrics", "metrics.total")]
)
async def test_a_flood_of_probes_costs_the_daemon_little(
    questions: list[str], path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many clients, each on its own connection: each gets an answer, and few requests reach the daemon."""
    for module in (
        "app",
        "daemon_client",
    ):  # client, process and daemon share one loop here, on a busy machine
        monkeypatch.setattr(f"wad.http.{module}.SILENCE", 30.0)
    async with serve_http(FakeDaemon(), "127.0.0.1", 0) as port:
        await ask(port, path)
        questions.clear()
        replies = await asyncio.gather(*(_many(port, path, 20) for _ in range(50)))
    assert {status for statuses in replies for status in statuses} == {200}
    assert 20 <= questions.count(name) <= 500  # of a thousand requests


async def _many(port: int, path: str, number: int) -> list[int]:
    """The statuses of this number of requests, one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found = []
    for _ in range(number):
        writer.write(f"GET {path} HTTP/1.1\r\nhost: wad\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        await reader.readexactly(length)
        found.append(int(head.split()[1]))
    writer.close()
    return found


async def test_each_answer_repeats_its_own_request(questions: list[str]) -> None:
    """The name of the request, and the address by which the dashboard was reached, although the request is shared."""
    async with serve_http(FakeDaemon(), "127.0.0.1", 0) as port:
        names = [f"r-{number}" for number in range(20)]
        health = await asyncio.gather(
            *(ask(port, "/health", headers={"X-Request-Id": name}) for name in names)
        )
        hosts = [f"host-{number}" for number in range(20)]
        boards = await asyncio.gather(
            *(ask(port, "/api/status/dashboard", headers={"Host": host}) for host in hosts)
        )
        bare = await ask(port, "/health")
    assert [reply.document["requestId"] for reply in health] == names
    urls = [reply.document["service"]["backendBaseUrl"] for reply in boards]
    assert urls == [f"http://{host}" for host in hosts]
    assert bare.document["requestId"].startswith("health_")


async def test_head_shares_too(questions: list[str]) -> None:
    """HEAD is GET without a body, also when it is shared."""
    async with serve_http(FakeDaemon(), "127.0.0.1", 0) as port:
        replies: list[Reply] = await asyncio.gather(
            *(ask(port, "/healthz", ("GET", "HEAD")[number % 2]) for number in range(20))
        )
    assert [bool(reply.body) for reply in replies] == [True, False] * 10
    assert len({reply.headers["content-length"] for reply in replies}) == 1


async def test_metrics_with_a_token_are_not_shared(questions: list[str]) -> None:
    """An answer that depends on rights is requested for each client."""
    async with serve_http(FakeDaemon(), "127.0.0.1", 0) as port:
        replies = await asyncio.gather(*(ask(port, "/metrics", token="wrong") for _ in range(5)))
    assert {reply.status for reply in replies} == {401}
    assert {*questions} == {"http.settings"}  # no call was allowed
