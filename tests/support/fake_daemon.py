"""A daemon without anything behind it: the attributes that the interfaces read, set by tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from wad.api.caller import Caller
from wad.api.http_process.calls import HttpProcesses
from wad.api.operation import Access
from wad.config.settings import SETTINGS, HttpSettings
from wad.core.connection import State, Status
from wad.core.errors import UnknownAccount
from wad.core.lease import Record, Tenure
from wad.core.message import Thread
from wad.core.problem import Problem, ProblemTimes
from wad.core.quarantine import Source
from wad.core.session_location import SessionLocation
from wad.flow.inbound.recent import Recent
from wad.flow.quarantine import Quarantine
from wad.flow.self_inspection import Inspection
from wad.lib.loops import Loops
from wad.store.port import AccountStatus, Staff, SyncStatus
from wad.systemd.cgroups import WorkerLimits

OPERATOR = Caller("an operator", Access.ADMIN, sees_codes=True)
"""The caller of an operation that a test calls itself."""


@dataclass
class FakeClock:
    """A clock that a test sets."""

    now: float = 1000.0
    wall: int = 1_700_000_000_000

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def wall_ms(self) -> int:
        return self.wall


@dataclass
class FakeCard:
    """What is known of an account."""

    name: str = "Shop"
    phone: str = "+15550000001"
    jid: str = ""
    lid: str = ""
    push_name: str = ""
    enabled: bool = True
    created_ms: int = 1_690_000_000_000
    auto_reply: Any = None
    backfill: Any = None


@dataclass
class FakeHistory:
    """What the phone's history brought."""

    recorded: int = 0
    known: int = 0
    last_ms: int | None = None
    last_messages: int | None = None


@dataclass
class FakeInbound:
    """How far a spool was read."""

    backlog: int = 0
    oldest_ms: int | None = None
    recorded: int = 0
    duplicates: int = 0
    untranslated: int = 0
    set_aside: int = 0
    skipped: int = 0
    receipts: int = 0
    history: FakeHistory = field(default_factory=FakeHistory)
    last_message_ms: int | None = None
    lost: int | None = 0
    error: str = ""
    last_event_ms: int | None = None


@dataclass
class FakeAccountQuarantine:
    """What was set aside."""

    copies: list[Any] = field(default_factory=list)
    count: int = 0


@dataclass
class FakeAccount:
    """One account; orders are noted in `orders`."""

    id: str
    clock: FakeClock
    card: FakeCard = field(default_factory=FakeCard)
    status: Status = field(default_factory=Status)
    inbound: FakeInbound = field(default_factory=FakeInbound)
    worker: Any = None
    worker_started_ms: int = 0
    restarts: int = 0
    logins: int = 0
    sent: int = 0
    refused: int = 0
    sent_lately: Any = field(default_factory=lambda: Recent(lambda: 0.0))
    refused_lately: Any = field(default_factory=lambda: Recent(lambda: 0.0))
    left_ms: int | None = None
    qr_ms: int | None = None
    problems: list[Problem] = field(default_factory=list)
    quarantine: FakeAccountQuarantine = field(default_factory=FakeAccountQuarantine)
    orders: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        return [problem.text for problem in self.problems]

    def become(self, state: State, reason: str = "because", **more: Any) -> None:
        self.status = Status(state=state, reason=reason, since=self.clock.now, **more)

    async def ended(self) -> None:
        pass

    async def pair(self, phone: str = "") -> None:
        self.orders.append(f"pair +{phone}" if phone else "pair")

    async def start(self) -> None:
        self.orders.append("start")

    async def stop(self) -> None:
        self.orders.append("stop")

    def restart(self) -> None:
        self.orders.append("restart")

    async def log_out(self) -> None:
        self.orders.append("log_out")


@dataclass
class FakeEngine:
    """A worker that reports only its handling of receipts."""

    receipts: str = "held"


class FakeAccounts:
    """The accounts by id."""

    def __init__(self, clock: FakeClock) -> None:
        self.engine = FakeEngine()
        self._clock = clock
        self._all: dict[str, FakeAccount] = {}
        self.removed: list[str] = []
        self.removed_counts: Counter[str] = Counter()
        self.locations: list[SessionLocation] = []

    def have(self, ident: str, name: str = "Shop") -> FakeAccount:
        account = FakeAccount(ident, self._clock, FakeCard(name))
        self._all[ident] = account
        return account

    def all(self) -> list[FakeAccount]:
        return list(self._all.values())

    def find(self, ref: str) -> FakeAccount:
        for account in self._all.values():
            if ref in (account.id, account.card.name, account.card.phone):
                return account
        raise UnknownAccount(f"there is no account {ref!r}", hint="wadctl account list")

    def by_id(self, ident: str) -> FakeAccount:
        if ident not in self._all:
            raise UnknownAccount(f"there is no account {ident!r}", hint="wadctl account list")
        return self._all[ident]

    def elsewhere(self) -> list[SessionLocation]:
        return self.locations

    async def start(self, account: FakeAccount) -> None:
        await account.start()

    async def add(self, name: str, *, phone: str = "", ident: str = "") -> FakeAccount:
        account = self.have(ident or f"acc-{len(self._all) + 1}", name)
        account.card.phone = phone
        return account

    async def name(self, ident: str, name: str) -> None:
        self._all[ident].card.name = name

    async def remove(self, ident: str) -> Path:
        self.removed.append(ident)
        del self._all[ident]
        return Path("/var/lib/wad/removed") / ident

    async def restore(self, ident: str) -> FakeAccount:
        return self.have(ident)


_RECORD = Record(
    holder="host-a", nonce="b00t", epoch=7, ttl=15, acquired_ms=1_699_999_990_000,
    renewed_ms=1_700_000_000_000, previous="host-b", reason="epoch 6 was released",
)  # fmt: skip


@dataclass
class FakeLeader:
    """The lease; `valid` None: passive."""

    valid: float | None = 9.5
    holder: str = "host-a"
    epoch: int | None = 7
    reason: str = "holding epoch 7"

    @property
    def active(self) -> bool:
        return self.valid is not None

    where: str = "/var/lib/wad/lease.json"
    seen: Record | None = _RECORD
    tenures: list[Tenure] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)

    def valid_for(self) -> float | None:
        return self.valid

    async def history(self, limit: int) -> list[Tenure]:
        return self.tenures[:limit]

    def take(self, by: str, *, force: bool) -> None:
        self.orders.append(f"take for {by}{' by force' if force else ''}")

    def let_go(self, by: str, abstain: float) -> None:
        self.orders.append(f"let go for {by}, {abstain:g} s")


@dataclass(frozen=True)
class FakeHappening:
    """One thing that happened."""

    at_ms: int
    kind: str
    account: str
    text: str
    detail: dict[str, Any]


class FakeBus:
    """What happened, and what a test makes happen."""

    def __init__(self) -> None:
        self.earlier: list[FakeHappening] = []
        self._queues: set[asyncio.Queue[FakeHappening]] = set()

    @property
    def followers(self) -> int:
        return len(self._queues)

    def publish(self, kind: str, text: str, *, account: str = "", **detail: Any) -> None:
        happening = FakeHappening(1_700_000_000_000, kind, account, text, detail)
        self.earlier.append(happening)
        for queue in self._queues:
            queue.put_nowait(happening)

    @asynccontextmanager
    async def follow(
        self, *, last: int = 0, live: bool = True
    ) -> AsyncIterator[AsyncIterator[FakeHappening]]:
        queue: asyncio.Queue[FakeHappening] = asyncio.Queue()
        earlier = self.earlier[-last:] if last else []
        self._queues.add(queue)
        try:
            yield self._read(queue, earlier, live)
        finally:
            self._queues.discard(queue)

    async def _read(
        self, queue: asyncio.Queue[FakeHappening], earlier: list[FakeHappening], live: bool
    ) -> AsyncIterator[FakeHappening]:
        for happening in earlier:
            yield happening
        while live:
            yield await queue.get()


@dataclass
class _Instance:
    id: str = "host-a"
    commit: str = ""


@dataclass
class _EngineSettings:
    kind: str = "simulator"


@dataclass
class _LeaseSettings:
    ttl: float = 15.0
    renew_every: float = 5.0
    margin: float = 3.0


@dataclass
class _State:
    sessions: Path = Path("/var/lib/wad/sessions")


def http_settings(**changes: object) -> HttpSettings:
    """The settings of [http], as they are while nothing is set but these."""
    values = {field.name: SETTINGS[f"http.{field.name}"].usual for field in fields(HttpSettings)}
    return HttpSettings(**(values | changes))


@dataclass
class _Config:
    http: HttpSettings = field(default_factory=http_settings)
    state: _State = field(default_factory=_State)
    lease: _LeaseSettings = field(default_factory=_LeaseSettings)
    instance: _Instance = field(default_factory=_Instance)
    engine: _EngineSettings = field(default_factory=_EngineSettings)


@dataclass
class _Loaded:
    config: _Config = field(default_factory=_Config)


class FakeStore:
    """No messages; its name, and what others published of their accounts."""

    kind = "sqlite"
    sync_status: SyncStatus | None = None
    staff: Staff | None = None
    quarantine: Source | None = None

    def problems(self) -> list[Problem]:
        return []

    def __init__(self) -> None:
        self.published: list[AccountStatus] = []

    async def auto_reply(self, account: str) -> None:
        return None

    async def accounts(self) -> list[AccountStatus]:
        return self.published

    async def entry(self, ident: str) -> Any:
        return None

    async def entry_ids(self, beginning: str, *, limit: int) -> list[str]:
        return []

    async def message(self, ident: str) -> Any:
        return None

    async def message_ids(self, beginning: str, *, limit: int) -> list[str]:
        return []

    async def threads(self, account: str, **_: object) -> list[Thread]:
        return [Thread(id=f"{account}__1@g.us", account=account, chat="1@g.us", last_ms=1000)]


class FakeDaemon:
    """A `Context`."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loaded: Any = _Loaded()
        self.loops = Loops(self.clock)
        self.quarantine = Quarantine(
            lambda: [source for source in [self.store.quarantine] if source is not None]
        )
        self.store: Any = FakeStore()
        self.accounts: Any = FakeAccounts(self.clock)
        self.outbound: Any = None
        self.backfills: Any = None
        self.media: Any = None
        self.moving: Any = None
        self.imports: Any = None
        self.leader: Any = FakeLeader()
        self.bus: Any = FakeBus()
        self.boot_id = "b00t"
        self.ready = True
        self.started_ms = 1_699_999_990_000
        self.uptime = 10.0
        self.warnings: list[str] = []
        self.findings: list[Problem] = []
        self.problem_times = ProblemTimes()
        self.http_processes = HttpProcesses()
        self.inspection = Inspection(self.clock, list)
        self.limits = WorkerLimits(1 << 30, 512)
        self.internal_errors = 0
        self.sessions_writable: bool | None = True
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1
