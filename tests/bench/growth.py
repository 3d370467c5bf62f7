"""Whether the cost of one more stays the same, however many there are: accounts, stored messages, reconnects.

Most figures are ratios, last over first; what one is a ratio of stands in `peer`.  Costs are CPU seconds, of user and
system together: on a shared machine they vary less than the time on the wall.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.engine import QUIET, a_server
from tests.bench.measure import Figure, measure
from tests.support.daemons import Daemon, a_daemon
from tests.support.real_world import STEADY, a_real_world
from tests.whatsapp import Account, Peer, WhatsApp
from wad.core.addresses import Addresses
from wad.core.change import Change
from wad.core.connection import State
from wad.core.event import Content, MessageKind, MessageReceived
from wad.core.jid import Jid
from wad.core.plan import plan
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
    """Append the CPU seconds that the daemon takes meanwhile."""
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
        for _ in range(_TURNS):  # in turn, so that a busy moment of the machine hits all of them
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
    """The median, without the first, in which everything is new."""
    return statistics.median(costs[1:])


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f} ms CPU"


# --- messages -------------------------------------------------------------------------------------

_FEW, _MANY = 1_000, 1_000_000
_ROUNDS = 9
_BURST = 500  # messages of a round
_BATCH = 100
_BATCHES = 40
_LOOKUPS = 5  # and as many pages, after each batch
_CHATS = 20
_PAGE = 50
_ACCOUNT = "acc-bench"
_INDEXES = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'messages' AND sql IS NOT NULL"
_MULTIPLY = """
INSERT INTO messages (id, account, thread, chat, sender, from_me, at_ms, seen, wa_id, status, push_name, client_id,
    stable_key, fingerprint, kind, content)
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
SELECT lower(hex(randomblob(12))), account, thread, chat, sender, from_me, at_ms - i * 20000, seen - i * 20000000,
    '3EB0' || hex(randomblob(9)), status, push_name, client_id, stable_key, fingerprint, kind, content
FROM n, messages WHERE number <= 20
"""


def _changes(first: int, count: int) -> list[Change]:
    """What inbound asks of the store for messages `first` and so on, one a second from many chats in turn."""
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
        found += plan(_ACCOUNT, event, Addresses(), seen=event.at_ms * 1000)
    return found


async def _fill(file: Path, size: int) -> None:
    """Fill a store with this number of messages: a few that inbound plans, and copies of them with random ids."""
    file.parent.mkdir(parents=True)
    store = await SqliteStore.open(file)
    await store.record(_ACCOUNT, _changes(0, _CHATS))
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        indexes = db.execute(_INDEXES).fetchall()
        db.execute("BEGIN")
        for name, _ in indexes:
            db.execute(f"DROP INDEX {name}")
        db.execute(_MULTIPLY, (size // _CHATS - 1,))
        for _, sql in indexes:
            db.execute(sql)
        db.execute("COMMIT")
    await store.recount(_ACCOUNT)
    assert (await store.totals(_ACCOUNT)).messages == size
    await store.close()


@dataclass
class _Installation:
    """A daemon whose store was filled, a peer that writes to its account, and the measured rates."""

    daemon: Daemon
    account: Account
    peer: Peer
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The store."""
        return self.daemon.state / "wad.db"

    def stored(self) -> int:
        """How many messages of the account are stored."""
        query = "SELECT coalesce(sum(messages), 0) FROM threads WHERE account != ?"
        with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True)) as db:
            return int(db.execute(query, (_ACCOUNT,)).fetchone()[0])

    async def burst(self, count: int) -> None:
        """Send messages, and record how many are stored per second."""
        assert self.daemon.process is not None
        wanted, before = self.stored() + count, cpu_s(self.daemon.process.pid)
        begun = time.perf_counter()
        for number in range(count):
            await self.peer.send_text(self.account, f"text {number}")
        async with asyncio.timeout(120):
            while self.stored() < wanted:
                await asyncio.sleep(0.005)
        self.rates.append(count / (time.perf_counter() - begun))
        self.cpu.append((cpu_s(self.daemon.process.pid) - before) / count)


@asynccontextmanager
async def _installed(directory: Path, size: int, server: WhatsApp) -> AsyncIterator[_Installation]:
    """A paired account of a daemon with the real library, whose store has this number of messages."""
    await _fill(directory / "state" / "wad.db", size)
    number = len(server.accounts) + 1
    account = server.add_account(f"155500005{number:02}")
    peer = server.add_peer(f"155500006{number:02}")
    async with a_daemon(directory, server.environment()) as daemon:
        await daemon.call("accounts.add", name="shop", phone=f"+{account.pn.user}")
        await account.phone.scan(await daemon.qr("shop"))
        await daemon.wait_state("shop", "connected")
        found = _Installation(daemon, account, peer)
        await found.burst(_BATCH)  # the first exchanges keys, and opens what is opened once
        found.rates.clear()
        found.cpu.clear()
        yield found


async def _read(file: Path) -> tuple[float, float]:
    """The usual seconds of CPU that a look-up by id and a page take, each just after a batch was recorded."""
    with closing(sqlite3.connect(file)) as db:
        idents = db.execute(
            "SELECT id FROM messages ORDER BY random() LIMIT ?", (_BATCHES * _LOOKUPS,)
        ).fetchall()
    lookups, pages = [], []
    store = await SqliteStore.open(file)
    for batch in range(_BATCHES):
        await store.record(_ACCOUNT, _changes(_MANY + batch * _BATCH, _BATCH))
        for number in range(_LOOKUPS):
            (ident,) = idents[batch * _LOOKUPS + number]
            before = time.process_time()
            assert await store.message(ident) is not None
            between = time.process_time()
            thread = f"{_ACCOUNT}__1555{number:07}@s.whatsapp.net"
            assert len(await store.messages(thread, limit=_PAGE)) == _PAGE
            pages.append(time.process_time() - between)
            lookups.append(between - before)
    await store.close()
    return statistics.median(lookups), statistics.median(pages)


@measure("growth_inbound", "growth_inbound_cpu", "growth_lookup", "growth_page")
async def growth_inbound() -> Sequence[Figure]:
    """With a million messages stored, beside a thousand: what is received, a look-up by id, and a page of 50.

    Received is what WhatsApp's server sends in bursts to a daemon's account until it is in the store: worker, spool,
    plan and batch as always.  The server of the test has its share of each burst.  The two daemons take turns.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(a_server())
        async with AsyncExitStack() as daemons:
            few, many = [
                await daemons.enter_async_context(_installed(directory / str(size), size, server))
                for size in (_FEW, _MANY)
            ]
            for _ in range(_ROUNDS):
                for one in (few, many):
                    await one.burst(_BURST)
        reads = [await _read(one.file) for one in (few, many)]
    rates = [statistics.median(one.rates) for one in (few, many)]
    cpu = [statistics.median(one.cpu) for one in (few, many)]
    (few_lookup, few_page), (lookup, page) = reads
    stored, found = (
        f"received and stored with {_FEW} stored ({_MANY})",
        f"a look-up by id with {_FEW} stored ({_MANY})",
    )
    return [
        Figure("growth_inbound", rates[1], "1/s", None, stored, rates[0], least_ratio=0.9),
        _growth("growth_inbound_cpu", "the daemon's part of a received message", cpu, None),
        Figure("growth_lookup", lookup * 1000, "ms", 0.2, found, few_lookup * 1000),
        _growth("growth_page", f"reading a page of {_PAGE}", [few_page, page], _MOST),
    ]


def _growth(name: str, what: str, costs: list[float], goal: float | None) -> Figure:
    first, last = costs
    peer = f"{what} with {_FEW} stored: {_ms(first)} ({_MANY}: {_ms(last)})"
    return Figure(name, last / first, "x", goal, peer, 1.0)


# --- reconnects -----------------------------------------------------------------------------------

_DROPS = 1_000
_WARM = 300  # drops before the first look


class _Weight:
    """What a process holds now: PSS in MB (1e6 bytes), handles, threads."""

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
        async with a_real_world(Path(directory), delays=STEADY) as world, world.lead():
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
