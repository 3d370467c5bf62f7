"""The accounts of this machine: their tasks, the leadership term, adding and removing accounts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from wad.core.account_reference import Names, clash, reference_kind
from wad.core.connection import State
from wad.core.errors import Conflict, NotFound, TimedOut, UnknownAccount, WadError
from wad.core.jid import account_id, phone_digits
from wad.core.names import check_name
from wad.core.session_location import SessionLocation, elsewhere_reason
from wad.engine import Engine
from wad.flow.accounts.account import Account
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.inbound.pipeline import forget_spool
from wad.lib.clock import stamp
from wad.lib.loops import Loop
from wad.state.account_dir import AccountCard, AccountDir, AccountDirs, RemovedAccount
from wad.state.card import ReadCard

log = logging.getLogger(__name__)

T = TypeVar("T")

_NAMED: Final = 10  # accounts that a hint names
_BEGINNING: Final = 1.0  # seconds that a leadership term waits for its accounts to begin
_TURNS: Final = 60.0  # seconds within which an inbox must be checked again


class Accounts:
    """The accounts whose directories are on this machine."""

    def __init__(self, account_dirs: AccountDirs, around: Surroundings, draw: Callable[[], str]) -> None:
        self._account_dirs = account_dirs
        self._around = around
        self._draw = draw
        self._accounts: dict[str, Account] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._epoch: int | None = None
        self._locations: dict[str, SessionLocation] = {}
        self._unpublished = asyncio.Event()
        self._removed: dict[str, Account] = {}
        self.changing = asyncio.Lock()
        """Held while an account is created, restored or renamed: one at a time."""
        self.on_new: Callable[[Account], None] = lambda account: None
        self.on_gone: Callable[[Account], Awaitable[None]] = _ignore

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
        locations = sorted(self._locations.values(), key=lambda location: location.account)
        return [location for location in locations if location.account not in self._accounts]

    def find(self, ref: str) -> Account:
        """The account with this id, name or whole number (`core.account_reference`).

        Raises UnknownAccount, Conflict if it matches several accounts or one on another machine.
        """
        if (account := choose(ref, self.all(), lambda account: names_of(account.card))) is not None:
            return account
        location = choose(ref, self.elsewhere(), _names_of_location)
        raise self._unknown(ref) if location is None else _elsewhere_error(location)

    def by_id(self, ident: str) -> Account:
        """The account with exactly this id.  Raises as `find`."""
        if ident in self._accounts:
            return self._accounts[ident]
        raise next(
            (
                _elsewhere_error(location)
                for location in self.elsewhere()
                if location.account == ident
            ),
            self._unknown(ident),
        )

    def _unknown(self, ref: str) -> WadError:
        known = [account.id for account in self.all()]
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        named = ", ".join(known[:_NAMED]) + more or "none"
        return UnknownAccount(f"there is no account {ref!r}", hint=f"accounts here: {named}")

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
            tasks = [task for tasks in self._tasks.values() for task in tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for account in self.all():
                await account.inbound.close()
                await account.keeper.settle()

    async def _open(self, account_dir: AccountDir) -> Account:
        account = self._add(account_dir, await self._around.threads.run(account_dir.mended_card))
        if self._epoch is not None:
            await self._join(account)
        return account

    def _add(self, account_dir: AccountDir, card: ReadCard) -> Account:
        account = Account(account_dir, card, self._around, self._unpublished)
        account.owner_of = lambda phone: self._whose(phone, but=account.id)
        self._accounts[account.id] = account
        self._run(account)
        return account

    def _whose(self, phone: str, *, but: str) -> str:
        found = (one.id for one in self.all() if one.id != but and one.card.phone == phone)
        return next(found, "")

    def _run(self, account: Account) -> None:
        loops = self._around.loops
        self._tasks[account.id] = [
            loops.start("account", account.run, account=account.id, cap=30),
            loops.start("inbound", account.inbound.run, account=account.id, cap=30, within=_TURNS),
        ]

    async def _join(self, account: Account) -> None:
        if account.is_being_removed:
            return
        account.location = self._locations.get(account.id)
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
        self._locations = await self._around.locations.all()
        self._epoch = epoch
        publisher = self._around.loops.start(
            "publishing", lambda loop: self._publish(loop, epoch), cap=30
        )
        accounts = [account for account in self.all() if not account.is_being_removed]
        for account in accounts:
            account.location = self._locations.get(account.id)
        beginning = asyncio.create_task(self._begin(accounts), name="begin accounts")
        try:
            for account in accounts:
                self.on_new(account)
            # The term waits for a few accounts, and not for hundreds: its lease has to be renewed.
            await asyncio.wait([beginning], timeout=_BEGINNING)
            yield
        finally:
            self._epoch, self._locations = None, {}
            publisher.cancel()
            beginning.cancel()
            # All must have stopped before an error is raised: one account's error must not hide the others.
            steps = [account.step_down() for account in self.all()]
            ended = await asyncio.gather(*steps, publisher, beginning, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    raise error

    async def _publish(self, loop: Loop, epoch: int) -> None:
        while True:
            self._unpublished.clear()
            failed: Exception | None = None
            for account in self.all():
                try:
                    await account.publish(epoch)
                    await self._update_location(account)
                except Exception as error:
                    failed = failed or error
            await self._unpublish_removed(epoch)
            if failed is not None:
                raise failed
            loop.progress()
            await self._unpublished.wait()

    async def resume(self, account: Account) -> None:
        """Start it if the lease is held: a slow order may have outlived the leadership term in which it was given."""
        if self._epoch is not None:
            await account.begin()

    # --- session locations ------------------------------------------------------------------------------

    async def register_session(self, account: Account) -> None:
        """Register that the account's session is here.

        Raises Fenced, Unavailable, TimedOut (the lease is gone).
        """
        if self._epoch is None:
            raise TimedOut("the lease is gone")
        card = account.card
        location = SessionLocation(
            account=account.id,
            instance=self._around.instance,
            since_ms=self._around.clock.wall_ms(),
            jid=card.jid,
            name=card.name,
            phone=card.phone,
        )
        await self._around.locations.put(location, epoch=self._epoch)
        if self._epoch is None:  # the workers have ended, and none may start any more
            raise TimedOut("the lease is gone")
        account.location = self._locations[account.id] = location

    async def _update_location(self, account: Account) -> None:
        """Register the session of a connected account, and unregister that of a logged-out one."""
        location, instance, card = account.location, self._around.instance, account.card
        ours = location is not None and location.instance == instance
        match account.status.state:
            case State.CONNECTED if location is None or not (ours and location.jid == card.jid):
                await self.register_session(account)
            case State.LOGGED_OUT if ours:
                await self._unregister_session(account)

    async def _unregister_session(self, account: Account) -> None:
        if self._epoch is not None and self._locations.pop(account.id, None) is not None:
            account.location = None
            await self._around.locations.forget(account.id, epoch=self._epoch)

    async def start(self, account: Account) -> None:
        """Run again after stopped, replaced or failed; after elsewhere, if an operator says that the session is here.

        Raises Conflict, Damaged, Fenced, Unavailable.
        """
        if account.status.state is State.ELSEWHERE and account.status.paired:
            await self.register_session(account)
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
        if phone:
            phone = f"+{phone_digits(phone)}"
        now_ms = self._around.clock.wall_ms()
        ident = account_id(ident or self._new_id(phone))
        card = AccountCard(
            id=ident, name=check_name(name), phone=phone, created_ms=now_ms, enabled=True
        )
        return await self.create(card)

    async def create(
        self, card: AccountCard, fill: Callable[[AccountDir], None] | None = None
    ) -> Account:
        """Create an account with this card; `fill` writes its other files.  All or nothing.

        Raises BadInput, Conflict, StateUnwritable, and what `fill` raises.
        """
        async with self.changing:
            self.check_names(card)

            def work() -> AccountDir:
                if fill is None:
                    return self._account_dirs.create(card)
                with self._account_dirs.incoming(card.id) as account_dir:
                    fill(account_dir)
                    account_dir.write_card(card)
                    return self._account_dirs.settle(account_dir)

            await self.expect_new(card.id)
            account = await self._open(await asyncio.to_thread(work))
        self._around.bus.publish("account", "added", account=account.id)
        return account

    async def expect_new(self, ident: str) -> None:
        """Prepare the creation of an account: the spool of an earlier account with this id is not missing.

        Raises Unavailable, StateUnwritable.
        """
        await forget_spool(self._around.store, ident)

    def check_names(self, card: AccountCard) -> None:
        """Raise Conflict if a name of the account would also match another one."""
        others = [names_of(account.card) for account in self.all() if account.id != card.id]
        if why := clash(names_of(card), others):
            raise Conflict(why, hint="choose another name, or remove that account first")

    async def rename(self, ident: str, name: str) -> None:
        """Rename an account.  Raises BadInput, UnknownAccount, Conflict, StateUnwritable."""
        name = check_name(name)
        async with self.changing:
            account = self.by_id(ident)
            if account.card.name != name:
                self.check_names(msgspec.structs.replace(account.card, name=name))
                await account.rename(name)
                self._unpublished.set()
                self._around.bus.publish("account", "renamed", account=account.id)

    def _new_id(self, phone: str) -> str:
        return f"acc-{phone[1:]}" if phone else f"acc-{self._draw()}"

    async def take_over(self, account_dir: AccountDir) -> Account:
        """Add an account whose directory was prepared, with its session; with `changing` held."""
        account = await self._open(account_dir)
        self._around.bus.publish("account", "imported", account=account.id)
        return account

    async def remove(self, ident: str) -> Path:
        """Stop an account and rename its directory; returns the new path.  Its messages stay in the store.

        Raises UnknownAccount, Conflict (it is being removed), StateUnwritable; then it is unchanged.
        """
        account = self.by_id(ident)
        account.begin_removal()
        # The caller may be cancelled: half of it would be neither an account nor a removed one.
        removing = asyncio.create_task(self._remove(account), name=f"remove {account.id}")
        path = await asyncio.shield(removing)
        self._around.bus.publish("account", "removed", account=account.id)
        return path

    async def _remove(self, account: Account) -> Path:
        try:
            await account.step_down("it is being removed")
            await self.on_gone(account)
            await self._end_tasks(account)
            await account.keeper.settle()
            async with self.changing:
                now = stamp(self._around.clock)
                path = await asyncio.to_thread(self._account_dirs.remove, account.id, now)
                del self._accounts[account.id]
        except BaseException:
            await self._stay(account)
            raise
        self._removed[account.id] = account
        if self._epoch is not None:
            try:
                await self._unpublish_removed(self._epoch)
            except WadError as error:
                log.warning(
                    "the published status of a removed account cannot be deleted yet: %s",
                    error,
                    extra={"account": account.id},
                )
                self._unpublished.set()  # the loop that publishes tries again
        return path

    async def _end_tasks(self, account: Account) -> None:
        tasks = self._tasks.pop(account.id)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await account.inbound.close()

    async def _stay(self, account: Account) -> None:
        """Continue after a removal that failed."""
        account.cancel_removal()
        if account.id not in self._tasks:
            self._run(account)
        if self._epoch is not None:
            await self._join(account)

    async def _unpublish_removed(self, epoch: int) -> None:
        """Delete the published status of removed accounts."""
        for ident, account in list(self._removed.items()):
            if ident not in self._accounts:
                await self._around.store.forget_account(ident, epoch=epoch)
                if (
                    account.location is not None
                    and account.location.instance == self._around.instance
                ):
                    await self._unregister_session(account)
            self._removed.pop(ident, None)

    async def restore(self, ref: str) -> Account:
        """Restore the removed account with this id, name or whole number, from its latest removal.

        Raises NotFound, Conflict (several match, or the name is in use), StateUnwritable.
        """
        async with self.changing:
            removed = await asyncio.to_thread(self._account_dirs.removed)
            found = _latest(ref, removed)
            self.check_names(found.card)
            account = await self._open(await asyncio.to_thread(self._account_dirs.restore, found))
        self._around.bus.publish("account", "restored", account=account.id)
        return account


def names_of(card: AccountCard) -> Names:
    """The id, name and number of an account, by which it can be found."""
    return Names(card.id, card.name, card.phone)


def _names_of_location(location: SessionLocation) -> Names:
    return Names(location.account, location.name, location.phone)


def choose(ref: str, among: Iterable[T], names: Callable[[T], Names]) -> T | None:
    """The item that a reference matches; None if none does.  Raises Conflict if several do."""
    found = [(one, how) for one in among if (how := reference_kind(ref, names(one))) is not None]
    if len(found) > 1:
        means = " and ".join(f"the {how} of {names(one).id}" for one, how in found[:_NAMED])
        raise Conflict(
            f"{ref!r} is ambiguous: {means}", hint="use an id, name or number of only one of them"
        )
    return found[0][0] if found else None


def _latest(ref: str, removed: Iterable[RemovedAccount]) -> RemovedAccount:
    """The removed account that a reference matches.  Raises NotFound, Conflict if several do."""
    latest = {one.id: one for one in removed}  # in the order of their removal
    found = latest.get(ref) or choose(ref, latest.values(), lambda one: names_of(one.card))
    if found is None:
        known = sorted(latest)
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        named = ", ".join(known[:_NAMED]) + more or "none"
        raise NotFound(f"removed account not found: {ref!r}", hint=f"removed accounts: {named}")
    return found


def _elsewhere_error(location: SessionLocation) -> Conflict:
    return Conflict(
        f"account {location.account} is elsewhere: {elsewhere_reason(location)}",
        hint=f"use {location.instance}, or move the session: wadctl session export",
    )


async def _ignore(account: Account) -> None:
    pass
