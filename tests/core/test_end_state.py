"""An account's end state is the same after a restart, whenever that happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.small_world import World, a_world
from tests.support.waiting import until
from wad.core import connection
from wad.core.connection import (
    Banned,
    Begin,
    Broken,
    Connected,
    Due,
    Ended,
    Input,
    LoggedOut,
    Lost,
    Outdated,
    Pair,
    Paired,
    QrOver,
    QrShown,
    Replaced,
    Restart,
    RetryDelays,
    State,
    Status,
    StepDown,
    Stop,
    step,
)
from wad.core.end_state import STORED_STATES, EndState, lasting_state, to_store
from wad.core.errors import Conflict, StateUnwritable
from wad.flow.accounts.account import Account
from wad.state.account_dir import AccountDir

DELAYS = RetryDelays(base=1, cap=60)
BOOT_MS = 1_769_000_000_000
VERSION = "1.0"


class Machine:
    """A model of an account whose daemon may restart at any time: the disk stays, the monotonic clock restarts."""

    def __init__(self) -> None:
        self.status = Status()
        self.now = 100.0
        self.wall_ms = BOOT_MS
        self.on_disk: EndState | None = None
        self.paired = False
        self.jid = False

    def handle(self, event: Input) -> None:
        """As `flow.account` does."""
        match event:
            case Pair():
                event = replace(event, until=self.now + 600, paired=self.paired)
        try:
            self.status = step(self.status, event, self.now, 0.5, DELAYS)
        except Conflict:
            return
        match event:
            case Pair():
                self.paired = self.jid = False
            case Connected() | Paired() if self.status.paired:
                self.paired = self.jid = True
            case LoggedOut() if self.status.state is State.LOGGED_OUT:
                self.paired = False  # the library deletes its keys
        self.on_disk = to_store(self.on_disk, self.status, self.now, self.wall_ms, VERSION)

    def begin(self, version: str = VERSION) -> None:
        """The lease is ours."""
        found = lasting_state(
            self.on_disk, paired=self.paired, was_paired=self.jid, now=self.now, wall_ms=self.wall_ms,
            version=version,
        )  # fmt: skip
        self.handle(Begin(self.paired, "", found))

    def restart(self, away_s: float, version: str = VERSION) -> None:
        """The process ends, and another begins."""
        self.wall_ms += int(away_s * 1000)
        self.status, self.now = Status(), 7.0
        self.begin(version)

    def passes(self, seconds: float) -> None:
        """Time."""
        self.now += seconds
        self.wall_ms += int(seconds * 1000)


EVENTS: st.SearchStrategy[Input] = st.one_of(
    st.sampled_from(
        [
            Pair(0, paired=False), Paired(), Connected(), QrShown("code"), QrOver(), Lost("gone"), Ended("died"),
            LoggedOut("the phone"), Replaced(), Outdated("old"), Broken("damaged"), Due(), Stop(), StepDown(),
            Restart(),
        ]
    ),
    st.builds(Banned, st.sampled_from([0.0, 60.0, 3600.0]), st.just("ban")),
)  # fmt: skip


@given(
    st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 1.0, 700.0])), max_size=20),
    st.lists(st.sampled_from([0.0, 5.0, 90.0]), min_size=1, max_size=3),
)
def test_restarts_change_nothing_of_it(
    events: list[tuple[Input, float]], restarts: list[float]
) -> None:
    """Whatever happened before: state, reason, since when and until when."""
    machine = Machine()
    machine.begin()
    for event, seconds in events:
        machine.handle(event)
        machine.passes(seconds)
        if machine.status.state is State.PASSIVE:
            machine.begin()
    before, at_ms, now = machine.status, machine.wall_ms, machine.now
    since_ms = at_ms - (now - before.since) * 1000
    until_ms = None if before.retry_at is None else at_ms + (before.retry_at - now) * 1000
    for away_s in restarts:
        machine.restart(away_s)
    after = machine.status
    over = until_ms is not None and until_ms <= machine.wall_ms
    if before.state in STORED_STATES and not over:
        if before.state is State.FAILED and machine.paired:
            assert after.state is State.CONNECTING  # the file is there again
            return
        assert (after.state, after.reason, after.worker) == (before.state, before.reason, False)
        assert abs(machine.wall_ms - (machine.now - after.since) * 1000 - since_ms) < 5
        if until_ms is not None:
            assert after.retry_at is not None
            assert abs(machine.wall_ms + (after.retry_at - machine.now) * 1000 - until_ms) < 5
    elif after.state is State.AWAITING_SCAN:
        assert not machine.paired
        assert not machine.jid


def test_another_version_of_wad_may_be_taken() -> None:
    """`outdated` is over with an upgrade, and not before."""
    machine = Machine()
    machine.paired = machine.jid = True
    machine.begin()
    machine.handle(Outdated("WhatsApp refuses this version"))
    machine.restart(1)
    assert str(machine.status.state) == "outdated"
    machine.restart(1, version="2.0")
    assert str(machine.status.state) == "connecting"


def test_a_wrong_clock_extends_no_ban() -> None:
    """Of the time that was left no more is left, however far back the clock was set."""
    ending = EndState(state="banned", reason="ban", since_ms=BOOT_MS, until_ms=BOOT_MS + 60_000)
    found = lasting_state(ending, paired=True, was_paired=True, now=0, wall_ms=0, version=VERSION)
    assert found is not None
    assert (found.since, found.retry_at) == (0, 60)


@pytest.mark.parametrize("state", ["connected", "novel", ""])
def test_an_unknown_state_is_ignored(state: str) -> None:
    """A later version may have written it."""
    ending = EndState(state=state, reason="?", since_ms=1)
    assert (
        lasting_state(ending, paired=True, was_paired=True, now=0, wall_ms=9, version=VERSION)
        is None
    )


# --- the account itself -----------------------------------------------------------------------------


async def again(tmp_path: Path, number: int, state: str) -> connection.Status:
    """Check the state after a restart."""
    async with a_world(tmp_path, boot=f"again{number}") as world, world.leading():
        (account,) = world.accounts.all()
        await until(lambda: account.status.state == state, state)
        assert account.worker is None
        return account.status


async def bring_to_rest(world: World, account: Account, event: Input) -> None:
    """What happens to it."""
    if isinstance(event, LoggedOut):
        account.account_dir.session_db.unlink()
    account.handle(event)
    await until(lambda: account.worker is None, "its worker's end")


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (LoggedOut("WhatsApp removed this device"), "logged_out"),
        (Replaced(), "replaced"),
        (Banned(3600, "spam"), "banned"),
        (Outdated("too old"), "outdated"),
    ],
)
async def test_a_restart_keeps_the_state(tmp_path: Path, event: Input, state: str) -> None:
    """And after a second restart."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await bring_to_rest(world, account, event)
        reason, ident = account.status.reason, account.id
        assert account.status.state == state
        assert account.card.ended is not None
    for number in range(2):
        assert (await again(tmp_path, number, state)).reason == reason
    async with a_world(tmp_path, boot="last") as world, world.leading():
        account = world.accounts.find(ident)
        if state == "logged_out":
            with pytest.raises(Conflict, match="logged out"):
                await account.start()
            await account.pair()
        else:
            await account.start()
        await until(lambda: account.status.state == "connected", "connected")
        assert account.card.ended is None


async def test_a_lost_session_is_not_an_account_that_was_never_paired(tmp_path: Path) -> None:
    """Logged out by a version that did not write that down."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await account.stop()
        account.account_dir.session_db.unlink()
        await account.keeper.change(enabled=True)
    assert "does not exist any more" in (await again(tmp_path, 1, "logged_out")).reason


async def test_an_account_that_was_being_paired_awaits_its_scan(tmp_path: Path) -> None:
    """For the first time, or after it was logged out."""
    async with a_world(tmp_path, auto_pair=False) as world, world.leading():
        account = await world.accounts.add("shop", phone="+15550000001")
        await account.pair()
        await until(lambda: account.status.qr, "a code")
    await again(tmp_path, 1, "awaiting_scan")
    async with a_world(tmp_path, boot="boot2") as world, world.leading():
        (account,) = world.accounts.all()
        await account.pair()
        await until(lambda: account.status.state == "connected", "connected")
        await bring_to_rest(world, account, LoggedOut("the phone"))
    async with a_world(tmp_path, boot="boot3", auto_pair=False) as world, world.leading():
        (account,) = world.accounts.all()
        assert account.status.state == "logged_out"
        await account.pair()
        await until(lambda: account.status.qr, "a code")
    await again(tmp_path, 4, "awaiting_scan")


async def test_a_stopped_account_keeps_its_time_and_its_logout(tmp_path: Path) -> None:
    """A logged-out account that is stopped is still known as logged out."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        await bring_to_rest(world, account, LoggedOut("the phone"))
        await account.stop()
        await account.keeper.change(stopped_ms=account.clock.wall_ms() - 3_600_000)
    status = await again(tmp_path, 1, "stopped")
    async with a_world(tmp_path, boot="boot2") as world, world.leading():
        (account,) = world.accounts.all()
        assert account.clock.monotonic() - account.status.since > 3599
        with pytest.raises(Conflict, match="logged out"):
            await account.start()
        await account.pair()
        await until(lambda: account.status.state == "connected", "connected")
    assert status.reason == "stopped by the operator"


async def test_a_disk_that_refuses_hides_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The state is shown now; the failed write is in the log."""

    def full(account_dir: AccountDir, card: object) -> None:
        raise StateUnwritable("no space left on device")

    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        with monkeypatch.context() as patched:
            patched.setattr(AccountDir, "write_card", full)
            account.handle(Replaced())
            await until(lambda: account.keeper.failure, "the disk refuses")
            assert account.status.state == "replaced"
            assert account.account_dir.card().ended is None
            assert "card_unwritten" in [one.code for one in account.problems]
    assert "cannot write the account's card: no space left on device" in caplog.text
    assert account.account_dir.card().ended == account.card.ended


def test_a_card_of_before_is_read(tmp_path: Path) -> None:
    """Without the new fields."""
    account_dir = AccountDir(tmp_path / "shop")
    account_dir.path.mkdir()
    account_dir.card_copy.write_bytes(
        msgspec.json.encode({"id": "shop", "name": "Shop", "jid": "1@lid"})
    )
    assert (account_dir.card().ended, account_dir.card().stopped_ms) == (None, 0)
