"""Every account of this machine: their tasks, their reign, adding one and putting one away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from wad.core.connection import State
from wad.core.errors import BadInput, Conflict, UnknownAccount, WadError
from wad.core.jid import account_id, phone_digits
from wad.engine import Engine
from wad.flow.account import Account, Surroundings, stamp
from wad.home import AccountCard, Home, Homes

log = logging.getLogger(__name__)

_RETRY_PUBLISH: Final = 5.0


class Accounts:
    """Every account whose home lies on this machine."""

    def __init__(self, homes: Homes, around: Surroundings, draw: Callable[[], str]) -> None:
        self._homes = homes
        self._around = around
        self._draw = draw
        self._accounts: dict[str, Account] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._epoch: int | None = None
        self._news = asyncio.Event()
        self.on_new: Callable[[Account], None] = lambda account: None
        self.on_gone: Callable[[Account], Awaitable[None]] = _nothing

    @property
    def engine(self) -> Engine:
        """The engine that runs them."""
        return self._around.engine

    def all(self) -> list[Account]:
        """Every account, by id."""
        return [self._accounts[ident] for ident in sorted(self._accounts)]

    def find(self, ref: str) -> Account:
        """The account of this id, name or number.  Raises UnknownAccount, or BadInput when a name is not unique."""
        if ref in self._accounts:
            return self._accounts[ref]
        digits = "".join(char for char in ref if char.isdecimal())
        found = [
            account
            for account in self.all()
            if account.card.name == ref or (digits and account.card.phone == f"+{digits}")
        ]
        if len(found) > 1:
            raise BadInput(f"{ref!r} names {len(found)} accounts", hint="give the id")
        if not found:
            known = ", ".join(account.id for account in self.all()) or "none"
            raise UnknownAccount(f"there is no account {ref!r}", hint=f"accounts here: {known}")
        return found[0]

    @property
    def reigning(self) -> bool:
        """Whether the lease is held, so that workers may run."""
        return self._epoch is not None

    # --- their tasks ------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the accounts' tasks; workers run only within a reign."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for home in await asyncio.to_thread(self._homes.all):
                self._take(home)
            try:
                yield
            finally:
                for tasks in self._tasks.values():
                    for task in tasks:
                        task.cancel()
        for account in self.all():
            account.inbound.close()

    def _take(self, home: Home) -> Account:
        assert self._group is not None
        account = Account(home, self._around, self._news)
        self._accounts[account.id] = account
        self._tasks[account.id] = [
            self._group.create_task(account.run(), name=f"account {account.id}"),
            self._group.create_task(account.inbound.run(), name=f"inbound {account.id}"),
        ]
        if self._epoch is not None:
            self._join_reign(account)
        return account

    def _join_reign(self, account: Account) -> None:
        account.begin()
        self.on_new(account)

    @asynccontextmanager
    async def reign(self, epoch: int) -> AsyncIterator[None]:
        """While the lease is held: workers run.  On the way out every worker is dead before this returns."""
        self._epoch = epoch
        publisher = asyncio.create_task(self._publish(epoch), name="publish accounts")
        try:
            for account in self.all():
                self._join_reign(account)
            yield
        finally:
            self._epoch = None
            publisher.cancel()
            await asyncio.gather(
                *(account.step_down() for account in self.all()), return_exceptions=False
            )

    async def _publish(self, epoch: int) -> None:
        while True:
            self._news.clear()
            try:
                for account in self.all():
                    await account.publish(epoch)
            except WadError as error:
                log.warning("cannot publish the accounts' status: %s", error)
                await asyncio.sleep(_RETRY_PUBLISH)
                self._news.set()
            await self._news.wait()

    def permit(self, seconds: float) -> None:
        """The lease was renewed."""
        for account in self._accounts.values():
            account.permit(seconds)

    def reconsider(self) -> None:
        """Workers may no longer run on this machine, or may again (`Surroundings.refusal`): let each account see."""
        for account in self.all():
            if account.status.worker or account.status.state is State.RECONNECTING:
                account.restart()

    # --- adding and putting away ----------------------------------------------------------------------

    async def add(self, name: str, *, phone: str = "", ident: str = "") -> Account:
        """A new account, not paired yet.  Raises BadInput, Conflict, StateUnwritable."""
        if phone:
            phone = f"+{phone_digits(phone)}"
            taken = [account for account in self.all() if account.card.phone == phone]
            if taken:
                raise Conflict(f"{phone} is account {taken[0].id} already")
        self._refuse_name(name)
        ident = account_id(ident or self._new_id(phone))
        card = AccountCard(
            id=ident, name=name, phone=phone, created_ms=self._around.clock.wall_ms(), enabled=True
        )
        account = self._take(await asyncio.to_thread(self._homes.create, card))
        self._around.bus.publish("account", "added", account=account.id)
        return account

    async def rename(self, ident: str, name: str) -> None:
        """Give an account another name.  Raises Conflict, StateUnwritable."""
        account = self.find(ident)
        if account.card.name != name:
            self._refuse_name(name)
            account.rename(name)
            self._news.set()
            self._around.bus.publish("account", "renamed", account=account.id)

    def _refuse_name(self, name: str) -> None:
        if any(account.card.name == name for account in self.all()):
            raise Conflict(f"an account is named {name!r} already", hint="choose another name")

    def _new_id(self, phone: str) -> str:
        return f"acc-{phone[1:]}" if phone else f"acc-{self._draw()}"

    def adopt(self, home: Home) -> Account:
        """An account whose home was made elsewhere, with its session."""
        account = self._take(home)
        self._around.bus.publish("account", "imported", account=account.id)
        return account

    async def remove(self, ident: str) -> Path:
        """Stop an account and rename its home; where it lies now.  Its messages stay in the store."""
        account = self.find(ident)
        await account.step_down()
        await self.on_gone(account)
        for task in self._tasks.pop(account.id):
            task.cancel()
        account.inbound.close()
        del self._accounts[account.id]
        path = await asyncio.to_thread(self._homes.remove, account.id, stamp(self._around.clock))
        if self._epoch is not None:
            await self._around.store.forget_account(account.id, epoch=self._epoch)
        self._around.bus.publish("account", "removed", account=account.id)
        return path

    async def restore(self, ident: str) -> Account:
        """Bring the latest removed account of this id back.  Raises NotFound, Conflict."""
        account = self._take(await asyncio.to_thread(self._homes.restore, ident))
        self._around.bus.publish("account", "restored", account=account.id)
        return account


async def _nothing(account: Account) -> None:
    pass
