"""A worker that cannot read replaced system files is replaced, one account after the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.small_world import a_world
from tests.support.waiting import until
from wad.engine.port import Confinement
from wad.flow.accounts.account import Account
from wad.flow.accounts.worker_renewal import Renewal


async def test_outdated_workers_are_replaced_in_turn(tmp_path: Path) -> None:
    """The next one waits until the previous one is connected again; one that is up to date stays."""
    async with a_world(tmp_path) as world, world.leading():
        accounts = [await world.connected(f"shop{n}", f"+1555000000{n}") for n in range(3)]
        before = [account.worker for account in accounts]
        for account in accounts[:2]:
            world.engine.workers[account.id].is_outdated = True
        gone: list[tuple[str, list[str]]] = []

        def watch(account: Account) -> None:
            assert account.worker is not None
            account.worker.ended.add_done_callback(
                lambda _: gone.append((account.id, [str(other.status.state) for other in accounts]))
            )

        for account in accounts:
            watch(account)
        renewal = world.loops.start("renewal", Renewal(world.accounts.all, every=0.05).run)
        try:
            await until(lambda: len(gone) == 2, "both are replaced")
            await until(
                lambda: all(str(a.status.state) == "connected" for a in accounts), "all are back"
            )
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        fresh = [account.worker is not old for account, old in zip(accounts, before, strict=True)]
        assert fresh == [True, True, False]
        assert [ident for ident, _ in gone] == [account.id for account in accounts[:2]]
        assert all(states.count("connected") >= 2 for _, states in gone)


async def test_incomplete_confinement_is_reported(tmp_path: Path) -> None:
    """A warning of the account, which degrades nothing."""
    async with a_world(tmp_path) as world, world.leading():
        account = await world.connected()
        world.engine.workers[account.id].confinement = Confinement(
            0, True, ("the kernel offers none",)
        )
        (problem,) = account.problems
        assert (problem.code, problem.kind.degrades) == ("confined_in_part", False)
        assert "files of other accounts (the kernel offers none)" in problem.text
        world.engine.workers[account.id].confinement = Confinement(7, True)
        assert account.problems == []
