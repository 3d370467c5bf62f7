"""Stranded claims of accounts that are not on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contracts.world import ACC, CLAIMED, EPOCH, OTHER, S, queued, sending
from tests.support.fake_daemon import FakeClock
from wad.core.outbox import Entry, Sent, Unknown
from wad.flow.outbound.reaper import GRACE, Reaper
from wad.store.sqlite.store import SqliteStore


@dataclass
class Scene:
    """A store, and a machine on which only `OTHER` lives."""

    store: SqliteStore
    clock: FakeClock
    reaper: Reaper

    async def look_after(self, seconds: float) -> None:
        """Time passes, and the reaper runs."""
        self.clock.now += seconds
        await self.reaper.run()

    async def state(self) -> str:
        """The state of the entry of the other machine's account."""
        entry = await self.store.entry(queued().id)
        assert entry is not None
        return str(entry.state)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """One entry is being sent."""
    store = await SqliteStore.open(tmp_path / "wad.db")
    clock = FakeClock(now=0.0)

    async def settle(ident: str, outcome: Unknown) -> Entry:
        return await store.settle(ident, outcome, epoch=EPOCH)

    await sending(store, queued())
    yield Scene(store, clock, Reaper(store, clock, lambda account: account == OTHER, settle))
    await store.close()


async def test_another_machines_stranded_entry_becomes_uncertain(scene: Scene) -> None:
    """It has time to return; the entry then names the claim's holder."""
    await scene.look_after(0)
    await scene.look_after(GRACE - 1)
    assert await scene.state() == S.SENDING
    await scene.look_after(1)
    assert await scene.state() == S.UNCERTAIN
    entry = await scene.store.entry(queued().id)
    assert entry is not None
    assert entry.error.startswith(f"{CLAIMED.claim.holder} claimed it")


async def test_one_that_cannot_be_settled_does_not_delay_the_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again with the next run."""
    await sending(scene.store, queued("k4"))
    settle = scene.reaper._settle

    async def fail_for_one(ident: str, outcome: Unknown) -> Entry:
        if ident == queued("k4").id:
            raise ValueError("a fault of ours")
        return await settle(ident, outcome)

    with monkeypatch.context() as patched:
        patched.setattr(scene.reaper, "_settle", fail_for_one)
        await scene.look_after(0)
        with pytest.raises(ValueError, match="a fault"):
            await scene.look_after(GRACE)
    assert await scene.state() == S.UNCERTAIN
    await scene.look_after(1)
    found = await scene.store.entry(queued("k4").id)
    assert found is not None
    assert found.state is S.UNCERTAIN


async def test_an_account_of_this_machine_is_left_to_its_sender(scene: Scene) -> None:
    """By the traces of its session."""
    entry = queued("k2", account=OTHER)
    await sending(scene.store, entry)
    await scene.look_after(0)
    await scene.look_after(GRACE)
    found = await scene.store.entry(entry.id)
    assert found is not None
    assert found.state is S.SENDING


async def test_a_machine_that_returns_in_time_keeps_its_claim(scene: Scene) -> None:
    """An entry that was settled meanwhile is left alone, and a later claim has its own time."""
    await scene.look_after(0)
    await scene.store.settle(queued().id, Sent("W1", 1), epoch=EPOCH)
    await scene.look_after(GRACE)
    assert await scene.state() == S.SENT
    await sending(scene.store, queued("k3", account=ACC))
    await scene.look_after(0)
    await scene.look_after(GRACE - 1)
    found = await scene.store.entry(queued("k3").id)
    assert found is not None
    assert found.state is S.SENDING
