"""Whether the cost of one more stays the same, however many there are: accounts, stored messages, reconnects.

Each figure is a ratio, last over first; `peer` says of which quantities.  Costs are CPU seconds, of user and system
together: on a shared machine they vary less than wall-clock time.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

from tests.bench.engine import QUIET
from tests.bench.measure import Figure, measure
from tests.support.daemons import Daemon, a_daemon
from tests.support.real_world import STEADY, a_real_world
from wad.core.change import Change
from wad.core.connection import State
from wad.core.event import Content, MessageKind, MessageReceived
from wad.core.jid import Jid
from wad.core.plan import plan
from wad.store import Store
from wad.store.sqlite.store import SqliteStore

_MOST = 1.2
_FLAT = 1.1

# --- accounts -------------------------------------------------------------------------------------

_MANY_ACCOUNTS = 30
_TURNS = 9
_STATUS_CALLS = 60
_TEXTS = 60


def cpu_s(pid: int) -> float:
    """The CPU time of all threads of a process so far, in seconds; exact to the nanosecond, unlike its `stat`."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


@asynccontextmanager
async def _counted(daemon: Daemon, costs: list[float]) -> AsyncIterator[None]:
    """Append the CPU seconds that the daemon uses meanwhile."""
    assert daemon.process is not None
    before = cpu_s(daemon.process.pid)
    yield
    costs.append(cpu_s(daemon.process.pid) - before)


@asynccontextmanager
async def _simulated(directory: Path, accounts: int) -> AsyncIterator[Daemon]:
    """A daemon with this number of connected accounts of the simulator."""
    async with a_daemon(directory, engine="simulator") as daemon:
        for number in range(accounts):
            await daemon.call("accounts.add", name=f"a{number}", phone=f"+1555000{number:04}")
            await daemon.call("accounts.pair", account=f"a{number}")
        for number in range(accounts):
            await daemon.wait_state(f"a{number}", "connected")
        yield daemon


async def _statuses(daemon: Daemon) -> None:
    for _ in range(_STATUS_CALLS):
        await daemon.call("status")


async def _texts(daemon: Daemon, accounts: int) -> None:
    """Send texts from each account in turn; each is delivered, and its receipt is recorded."""
    for number in range(_TEXTS if accounts else 0):
        await daemon.call(
            "messages.send",
            account=f"a{number % accounts}",
            to="+15550010000",
            text="hello",
            wait=10,
        )


@measure("growth_accounts")
async def growth_accounts() -> Sequence[Figure]:
    """An account's share of a `status` call, and a text sent (queued, sent, its receipt recorded): 1 and 30 accounts.

    The share is what the call costs beyond one of a daemon without accounts, divided by the accounts.
    """
    counts = (0, 1, _MANY_ACCOUNTS)
    status: dict[int, list[float]] = {count: [] for count in counts}
    text: dict[int, list[float]] = {count: [] for count in counts}
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        daemons = {
            count: await stack.enter_async_context(_simulated(directory / str(count), count))
            for count in counts
        }
        for _ in range(
            _TURNS
        ):  # alternating, so that a busy moment of the machine affects all of them
            for count, daemon in daemons.items():
                async with _counted(daemon, status[count]):
                    await _statuses(daemon)
                async with _counted(daemon, text[count]):
                    await _texts(daemon, count)
    empty = _usual(status[0])

    def cost(count: int) -> float:
        return (_usual(status[count]) - empty) / _STATUS_CALLS / count + _usual(
            text[count]
        ) / _TEXTS

    first, last = cost(1), cost(_MANY_ACCOUNTS)
    peer = f"an account's share of a status call and one text with 1 account: {_ms(first)} (30: {_ms(last)})"
    return [Figure("growth_accounts", last / first, "x", _MOST, peer, 1.0)]


def _usual(costs: list[float]) -> float:
    """The median, without the first, which includes the warm-up."""
    return statistics.median(costs[1:])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f} ms CPU"


# --- messages -------------------------------------------------------------------------------------

_FEW, _MANY = 1_000, 1_000_000
_FILL = 50_000
_BATCH = 100
_SERIES = 4
_BATCHES = 40  # of a series
_PAGES = 5  # read after each batch
_CHATS = 20
_PAGE = 50
_ACCOUNT = "acc-bench"


def _changes(first: int, count: int) -> list[Change]:
    """Inbound's records for messages `first` and following, one a second from many chats in turn."""
    found: list[Change] = []
    for number in range(first, first + count):
        chat = Jid.parse(f"1555{number % _CHATS:07}@s.whatsapp.net")
        event = MessageReceived(
            id=f"3EB0{hashlib.sha256(str(number).encode()).hexdigest()[:18].upper()}",  # as random as WhatsApp's
            chat=chat,
            sender=chat,
            at_ms=1_700_000_000_000 + number * 1000,
            content=Content(MessageKind.TEXT, f"message {number}, as long as they usually are"),
            push_name="Somebody",
        )
        found += plan(_ACCOUNT, event, {}, seen=event.at_ms * 1000)
    return found


class _Filled:
    """A store with this number of messages, and the cost of adding and reading."""

    def __init__(self, store: Store, file: sqlite3.Connection, size: int) -> None:
        self.store = store
        self.file = file
        self.size = size
        self.record_s: list[float] = []
        self.page_s: list[float] = []

    async def grow(self, size: int, step: int) -> None:
        """Record up to a size."""
        while self.size < size:
            count = min(step, size - self.size)
            await self.store.record(_ACCOUNT, _changes(self.size, count))
            self.size += count

    async def series(self) -> None:
        """Measure the cost of some batches, including all that they defer; and of pages after each."""
        await self._record()  # the first opens pages and compiles statements
        self._write_back()
        cost = 0.0
        for _ in range(_BATCHES):
            cost += await self._record()
            for number in range(_PAGES):
                await self._read(number * 37 % _CHATS)
        self.record_s.append((cost + self._write_back()) / _BATCHES)

    async def _record(self) -> float:
        changes = _changes(self.size, _BATCH)
        before = time.process_time()
        await self.store.record(_ACCOUNT, changes)
        self.size += _BATCH
        return time.process_time() - before

    def _write_back(self) -> float:
        """Checkpoint the log, as SQLite does by itself when the log is long."""
        before = time.process_time()
        self.file.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        return time.process_time() - before

    async def _read(self, chat: int) -> None:
        """Measure the cost of the newest page of a thread."""
        thread = f"{_ACCOUNT}__1555{chat:07}@s.whatsapp.net"
        before = time.process_time()
        await self.store.messages(thread, limit=_PAGE)
        self.page_s.append(time.process_time() - before)


@asynccontextmanager
async def _filled(directory: Path, size: int = 0) -> AsyncIterator[_Filled]:
    directory.mkdir(exist_ok=True)
    store = await SqliteStore.open(directory / "wad.db")
    try:
        with closing(sqlite3.connect(directory / "wad.db", isolation_level=None)) as file:
            yield _Filled(store, file, size)
    finally:
        await store.close()


@measure("growth_messages", "growth_messages_page")
async def growth_messages() -> Sequence[Figure]:
    """A recorded batch of 100 messages, and a page of 50 read: with a thousand and with a million stored.

    Of what is recorded it is the mean of series of forty batches, each with the writing back of all that it left in
    SQLite's log.  Forty batches of the large store fill the log to where it is written back by itself, and are twice as
    many messages as are packed at once (wad/store/sqlite/keys.py): so each series has its share of both.  Meanwhile
    the small store grows to five thousand.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with _filled(directory / "few") as few:
            await few.grow(_FEW, _BATCH)
        async with _filled(directory / "many") as many:
            await many.grow(_MANY, _FILL)
            for turn in range(_SERIES):
                fresh = directory / f"few{turn}"  # so that it stays at a thousand
                shutil.copytree(directory / "few", fresh)
                async with _filled(fresh, _FEW) as small:
                    await small.series()
                    few.record_s += small.record_s
                    few.page_s += small.page_s
                await many.series()
                shutil.rmtree(fresh)
    records = [statistics.mean(one.record_s) for one in (few, many)]
    pages = [statistics.median(one.page_s) for one in (few, many)]
    return [
        _growth("growth_messages", f"recording {_BATCH} messages", records),
        _growth("growth_messages_page", f"reading a page of {_PAGE}", pages),
    ]


def _growth(name: str, what: str, costs: list[float]) -> Figure:
    first, last = costs
    peer = f"{what} with {_FEW} stored: {_ms(first)} ({_MANY}: {_ms(last)})"
    return Figure(name, last / first, "x", _MOST, peer, 1.0)


# --- reconnects -----------------------------------------------------------------------------------

_DROPS = 1_000
_WARM = 300  # drops before the first look


class _Weight:
    """The resources of a process: PSS in MB (1e6 bytes), handles, threads."""

    def __init__(self, pid: int) -> None:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kb = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        self.pss_mb = kb * 1024 / 1e6
        self.handles = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        self.threads = sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


@measure("reconnects", "reconnects_handles", "reconnects_threads", "reconnects_restarts")
async def reconnects() -> Sequence[Figure]:
    """One account's worker after 300 and 1,000 cut connections: memory, handles, threads; how often it died.

    The first 300 fill what is filled once.  Of 2,000 cuts, looked at every 100, threads were 13 after the login, 15
    after 100, 17 after 200, and 17 ever after.  Three of the four are the Go runtime's, which makes a thread whenever
    all it has are in calls and keeps it; one is ours, which answers the daemon's probes and is made by the first of
    them.  Each look is at a worker at rest: in between, pages of the library's file come and go.

    Here every login counts as lasting: a daemon would end the worker after the third short connection in a row.
    """
    with tempfile.TemporaryDirectory() as directory:
        async with a_real_world(Path(directory), patience=STEADY) as world, world.lead():
            line = await world.line()
            weights = []
            for drops in (0, _WARM, _DROPS - _WARM):
                for _ in range(drops):
                    logins = line.whatsapp.logins
                    await line.whatsapp.drop()
                    await line.connected(after=logins)
                await asyncio.sleep(QUIET)
                await line.until(State.CONNECTED)
                weights.append(_Weight(line.pid))
            restarts = line.wad.restarts
    start, first, last = weights

    def figure(name: str, what: str, values: tuple[float, float, float]) -> Figure:
        before, warm, after = values
        peer = f"{what} after {_WARM} cuts: {warm:.4g} (at the start: {before:.4g}, {_DROPS}: {after:.4g})"
        return Figure(name, after / warm, "x", _FLAT, peer, 1.0)

    return [
        figure("reconnects", "MB PSS", (start.pss_mb, first.pss_mb, last.pss_mb)),
        figure("reconnects_handles", "handles", (start.handles, first.handles, last.handles)),
        figure("reconnects_threads", "threads", (start.threads, first.threads, last.threads)),
        Figure("reconnects_restarts", restarts, "", 0, f"workers that died in {_DROPS} cuts", 1.0),
    ]  # fmt: skip
