"""The creation of an account: its directory and everything in it, and its start; whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from wad.core.account_reference import clash
from wad.core.errors import Conflict
from wad.core.jid import account_id, phone_digits
from wad.core.names import check_name
from wad.flow.accounts.account import Account
from wad.flow.accounts.account_lookup import names_of
from wad.flow.accounts.surroundings import Surroundings
from wad.flow.inbound.pipeline import forget_spool
from wad.lib.cancellation import uncancellable
from wad.state.account_dir import AccountCard, AccountDir, AccountDirs


class Creation:
    """Creates accounts, one at a time.

    `draw` returns a random part of an id, `accounts` the present accounts; `open_account` starts the account in a
    directory.
    """

    def __init__(
        self,
        account_dirs: AccountDirs,
        around: Surroundings,
        draw: Callable[[], str],
        changing: asyncio.Lock,
        accounts: Callable[[], Sequence[Account]],
        open_account: Callable[[AccountDir], Awaitable[Account]],
    ) -> None:
        self._account_dirs = account_dirs
        self._around = around
        self._draw = draw
        self._changing = changing
        self._accounts = accounts
        self._open_account = open_account

    def new_card(self, name: str, phone: str, ident: str) -> AccountCard:
        """The card of an account that is not paired yet; `phone` and `ident` may be empty.  Raises BadInput."""
        if phone:
            phone = f"+{phone_digits(phone)}"
        ident = ident or (f"acc-{phone[1:]}" if phone else f"acc-{self._draw()}")
        return AccountCard(
            id=account_id(ident),
            name=check_name(name),
            phone=phone,
            created_ms=self._around.clock.wall_ms(),
            enabled=True,
        )

    async def create(
        self, card: AccountCard, fill: Callable[[AccountDir], None] | None = None
    ) -> Account:
        """Create an account with this card; `fill` writes its other files, on a thread.

        Raises BadInput, Conflict, StateUnwritable, and what `fill` raises.
        """

        def work() -> AccountDir:
            if fill is None:
                return self._account_dirs.create(card)
            with self._account_dirs.incoming(card.id) as account_dir:
                fill(account_dir)
                account_dir.write_card(card)
                return self._account_dirs.settle(account_dir)

        async with self._changing:
            self.check_names(card)
            return await self.make(card.id, work, "added")

    async def make(self, ident: str, work: Callable[[], AccountDir], what: str) -> Account:
        """Let `work` make the directory of an account, on a thread, and start the account; with the lock held.

        Both or none, even if the caller is cancelled.  The event bus gets `what` happened.  Raises
        Conflict, Unavailable, StateUnwritable, and what `work` raises.
        """
        await self.expect_new(ident)
        return await uncancellable(self._made(work, what))

    async def _made(self, work: Callable[[], AccountDir], what: str) -> Account:
        account = await self._open_account(await asyncio.to_thread(work))
        self._around.bus.publish("account", what, account=account.id)
        return account

    async def expect_new(self, ident: str) -> None:
        """Prepare for another spool under this id: the spool of an earlier account with this id is not missing.

        Raises Conflict if there is an account with this id: its own spool is read on from its cursor.
        Raises Unavailable, StateUnwritable.
        """
        if any(account.id == ident for account in self._accounts()):
            raise Conflict(
                f"the account {ident!r} already exists",
                hint="remove that account first, or choose another id",
            )
        await forget_spool(self._around.store, ident)

    def check_names(self, card: AccountCard) -> None:
        """Raise Conflict if a name of the account would also match another one."""
        others = [names_of(account.card) for account in self._accounts() if account.id != card.id]
        if why := clash(names_of(card), others):
            raise Conflict(why, hint="choose another name, or remove that account first")
