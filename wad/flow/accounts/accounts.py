"""The accounts of this machine: their tasks, the leadership term, adding and removing accounts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from wad.core.connection import State
from wad.core.names import check_name
from wad.core.session_location import SessionLocation
from wad.engine import Engine
from wad.flow.accounts.account import Account
from wad.flow.accounts.account_lookup import by_id, find, latest_removed
from wad.flow.accounts.account_loops import AccountLoops
from wad.flow.accounts.counts import counts_of
from wad.flow.accounts.creation import Creation
from wad.flow.accounts.publishing import Publishing
from wad.flow.accounts.removal import Removal
from wad.flow.accounts.session_locations import SessionLocations
from wad.flow.accounts.surroundings import Surroundings
from wad.state.account_dir import AccountDir, AccountDirs
from wad.state.card import ReadCard

_BEGINNING: Final = 1.0  # seconds that a leadership term waits for its accounts to begin


class Accounts:
    """The accounts whose directories are on this machine."""

    def __init__(
        self, account_dirs: AccountDirs, around: Surroundings, draw: Callable[[], str]
    ) -> None:
        """`draw` returns a random part of an id."""
        self._account_dirs = account_dirs
        self._around = around
        self._accounts: dict[str, Account] = {}
        self._loops = AccountLoops(around.loops)
        self._epoch: int | None = None
        self.removed_counts: Counter[str] = Counter()
        """The counts of removed accounts since the start (`counts.COUNTS`): totals of all accounts never fall."""
        self._unpublished = asyncio.Event()
        self.locations = SessionLocations(around)
        self._publishing = Publishing(
            around.store, self.locations, self.all, self._unpublished, lambda: self._epoch
        )
        self.changing = asyncio.Lock()
        """Held while an account is created, restored or renamed: one at a time."""
        self.on_new: Callable[[Account], None] = lambda account: None
        self.on_gone: Callable[[Account], Awaitable[None]] = _ignore
        self.creation = Creation(account_dirs, around, draw, self.changing, self.all, self._open)
        self._removal = Removal(
            account_dirs, around, self._loops, self._publishing, self.changing,
            on_gone=lambda account: self.on_gone(account), on_removed=self._drop, join=self._join,
        )  # fmt: skip

    @property
    def engine(self) -> Engine:
        """The engine that runs them."""
        return self._around.engine

    def all(self) -> list[Account]:
        """Every account, by id."""
        return [self._accounts[ident] for ident in sorted(self._accounts)]

    def get(self, ident: str) -> Account | None:
        """The account with this id, if it has a directory here."""
        return self._accounts.get(ident)

    def elsewhere(self) -> list[SessionLocation]:
        """Session locations of accounts without a directory here, by id; known only during a leadership term."""
        return [found for found in self.locations.all() if found.account not in self._accounts]

    def find(self, ref: str) -> Account:
        """The account with this id, name or whole number (`core.account_reference`).

        Raises UnknownAccount, Conflict if it matches several accounts or one on another machine.
        """
        return find(ref, self.all(), self.elsewhere())

    def by_id(self, ident: str) -> Account:
        """The account with exactly this id.  Raises as `find`."""
        return by_id(ident, self.all(), self.elsewhere())

    @property
    def leading(self) -> bool:
        """Whether the lease is held, so that workers may run."""
        return self._epoch is not None

    # --- their tasks ------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the accounts' tasks; workers run only within a leadership term."""
        try:
            account_dirs = await asyncio.to_thread(self._account_dirs.all)
            threads = self._around.threads
            cards = [threads.run(account_dir.mended_card) for account_dir in account_dirs]
            for account_dir, card in zip(account_dirs, await asyncio.gather(*cards), strict=True):
                self._add(account_dir, card)
            yield
        finally:
            await self._loops.end_all()
            for account in self.all():
                await account.inbound.close()
                await account.keeper.settle()

    async def _open(self, account_dir: AccountDir) -> Account:
        account = self._add(account_dir, await self._around.threads.run(account_dir.mended_card))
        await self._join(account)
        return account

    def _add(self, account_dir: AccountDir, card: ReadCard) -> Account:
        account = Account(
            account_dir,
            card,
            self._around,
            self._unpublished,
            lambda phone: self._owner_of(phone, but=account_dir.id),
        )
        self._accounts[account.id] = account
        self._loops.start(account)
        return account

    def _drop(self, account: Account) -> None:
        self.removed_counts.update(counts_of(account))
        del self._accounts[account.id]

    def _owner_of(self, phone: str, *, but: str) -> str:
        found = (one.id for one in self.all() if one.id != but and one.card.phone == phone)
        return next(found, "")

    async def _join(self, account: Account) -> None:
        if account.is_being_removed or self._epoch is None:
            return
        account.location = self.locations.of(account.id)
        await account.begin()
        if self._epoch is not None:
            self.on_new(account)

    async def _begin(self, accounts: Sequence[Account]) -> None:
        """Start the existing accounts; the start queue decides their order."""
        for account in accounts:
            try:
                if self._accounts.get(account.id) is account and not account.is_being_removed:
                    await account.begin()
            except Exception as error:  # the others start all the same
                self._around.loops.fault("beginning", error, account=account.id)

    @asynccontextmanager
    async def lead(self, epoch: int) -> AsyncIterator[None]:
        """While the lease is held: workers run.  On exit every worker is dead before this returns."""
        await self.locations.begin(epoch)
        self._epoch = epoch
        publisher = self._around.loops.start(
            "publishing", lambda loop: self._publishing.run(loop, epoch), cap=30
        )
        accounts = [account for account in self.all() if not account.is_being_removed]
        for account in accounts:
            account.location = self.locations.of(account.id)
        beginning = asyncio.create_task(self._begin(accounts), name="begin accounts")
        try:
            for account in accounts:
                self.on_new(account)
            # The term waits for a few accounts, and not for hundreds: its lease has to be renewed.
            await asyncio.wait([beginning], timeout=_BEGINNING)
            yield
        finally:
            self._epoch = None
            self.locations.end()
            publisher.cancel()
            beginning.cancel()
            # All must have stopped before an error is raised: one account's error must not hide the others.
            steps = [account.step_down() for account in self.all()]
            ended = await asyncio.gather(*steps, publisher, beginning, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    raise error

    async def resume(self, account: Account) -> None:
        """Start it if the lease is held: a slow order may have outlived the leadership term in which it was given."""
        if self._epoch is not None:
            await account.begin()

    async def start(self, account: Account) -> None:
        """Run again after stopped, replaced or failed; after elsewhere, if an operator says that the session is here.

        Raises Conflict, Damaged, Fenced, Unavailable.
        """
        if account.status.state is State.ELSEWHERE and account.status.paired:
            await self.locations.register(account)
        await account.start()

    def kill(self) -> None:
        """End every worker now; the crash rule settles their pending sends."""
        for account in self.all():
            if account.worker is not None:
                killing = account.worker.stop(0)
                self._around.loops.once("kill", killing, account=account.id)

    def permit(self, until: float) -> None:
        """The lease was renewed: permit the workers to act until then, however long it takes to reach each."""
        for account in self._accounts.values():
            try:
                account.permit(until)
            except Exception as error:
                # Only that worker's permission runs out; the others, and the lease, are not affected.
                self._around.loops.fault("permission", error, account=account.id)

    def reconsider(self) -> None:
        """Check in each account whether workers may run on this machine (`Surroundings.refusal`)."""
        for account in self.all():
            if account.status.worker or account.status.state is State.RECONNECTING:
                account.restart()

    # --- adding and removing --------------------------------------------------------------------------

    async def add(self, name: str, *, phone: str = "", ident: str = "") -> Account:
        """Create an account that is not paired yet.  Raises BadInput, Conflict, StateUnwritable."""
        return await self.creation.create(self.creation.new_card(name, phone, ident))

    async def rename(self, ident: str, name: str) -> None:
        """Rename an account.  Raises BadInput, UnknownAccount, Conflict, StateUnwritable."""
        name = check_name(name)
        async with self.changing:
            account = self.by_id(ident)
            if account.card.name != name:
                self.creation.check_names(msgspec.structs.replace(account.card, name=name))
                await account.keeper.change(name=name)
                self._unpublished.set()
                self._around.bus.publish("account", "renamed", account=account.id)

    async def remove(self, ident: str) -> Path:
        """Stop an account and rename its directory; returns the new path.  Its messages stay in the store.

        Raises UnknownAccount, Conflict (it is being removed), StateUnwritable; then it is unchanged.
        """
        return await self._removal.remove(self.by_id(ident))

    async def restore(self, ref: str) -> Account:
        """Restore the removed account with this id, name or whole number, from its latest removal.

        Raises NotFound, Conflict (several match, or the name is in use), StateUnwritable.
        """
        async with self.changing:
            removed = await asyncio.to_thread(self._account_dirs.removed)
            found = latest_removed(ref, removed)
            self.creation.check_names(found.card)
            return await self.creation.make(
                found.id, lambda: self._account_dirs.restore(found), "restored"
            )


async def _ignore(account: Account) -> None:
    pass
