"""Every account of this machine: their tasks, their reign, adding one and putting one away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from wad.core.connection import State
from wad.core.errors import BadInput, Conflict, TimedOut, UnknownAccount
from wad.core.jid import account_id, phone_digits
from wad.core.place import Place, told
from wad.engine import Engine
from wad.flow.account import Account, Surroundings, stamp
from wad.home import AccountCard, Home, Homes
from wad.loops import Loop

log = logging.getLogger(__name__)

_TURNS: Final = 60.0  # seconds in which what has arrived is looked at again


class Accounts:
    """Every account whose home lies on this machine."""

    def __init__(self, homes: Homes, around: Surroundings, draw: Callable[[], str]) -> None:
        self._homes = homes
        self._around = around
        self._draw = draw
        self._accounts: dict[str, Account] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._epoch: int | None = None
        self._places: dict[str, Place] = {}
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

    def here(self, ident: str) -> Account | None:
        """The account of this id, if it has a home here."""
        return self._accounts.get(ident)

    def elsewhere(self) -> list[Place]:
        """The accounts of which nothing lies here but what the other machines say, by id; known while we reign."""
        places = sorted(self._places.values(), key=lambda place: place.account)
        return [place for place in places if place.account not in self._accounts]

    def find(self, ref: str) -> Account:
        """The account of this id, name or number.

        Raises UnknownAccount, BadInput when a name is not unique, Conflict when the account is on another machine.
        """
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
        for place in self.elsewhere() if not found else ():
            if ref in (place.account, place.name) or (digits and place.phone == f"+{digits}"):
                raise Conflict(
                    f"account {place.account} is elsewhere: {told(place)}",
                    hint=f"ask {place.instance}, or move the session: wadctl session export",
                )
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
        try:
            for home in await asyncio.to_thread(self._homes.all):
                self._take(home)
            yield
        finally:
            tasks = [task for tasks in self._tasks.values() for task in tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for account in self.all():
                account.inbound.close()

    def _take(self, home: Home) -> Account:
        account = Account(home, self._around, self._news)
        self._accounts[account.id] = account
        loops = self._around.loops
        self._tasks[account.id] = [
            loops.start("account", account.run, account=account.id, cap=30),
            loops.start("inbound", account.inbound.run, account=account.id, cap=30, within=_TURNS),
        ]
        if self._epoch is not None:
            self._join_reign(account)
        return account

    def _join_reign(self, account: Account) -> None:
        account.place = self._places.get(account.id)
        account.begin()
        self.on_new(account)

    @asynccontextmanager
    async def reign(self, epoch: int) -> AsyncIterator[None]:
        """While the lease is held: workers run.  On the way out every worker is dead before this returns."""
        self._places = await self._around.places.all()
        self._epoch = epoch
        publisher = self._around.loops.start(
            "publishing", lambda loop: self._publish(loop, epoch), cap=30
        )
        try:
            for account in self.all():
                self._join_reign(account)
            yield
        finally:
            self._epoch, self._places = None, {}
            publisher.cancel()
            # All of them have to be at rest before anything is said of it: what one raises must not hide the others.
            steps = [account.step_down() for account in self.all()]
            ended = await asyncio.gather(*steps, publisher, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    raise error

    async def _publish(self, loop: Loop, epoch: int) -> None:
        while True:
            self._news.clear()
            failed: Exception | None = None
            for account in self.all():
                try:
                    await account.publish(epoch)
                    await self._settle_place(account)
                except Exception as error:
                    failed = failed or error
            if failed is not None:
                raise failed
            loop.progress()
            await self._news.wait()

    # --- where sessions lie ---------------------------------------------------------------------------

    async def own(self, account: Account) -> None:
        """Write down that the account's session lies here.

        Raises Fenced, Unavailable, TimedOut (the lease is gone).
        """
        if self._epoch is None:
            raise TimedOut("the lease is gone")
        card = account.card
        place = Place(
            account=account.id,
            instance=self._around.instance,
            since_ms=self._around.clock.wall_ms(),
            jid=card.jid,
            name=card.name,
            phone=card.phone,
        )
        await self._around.places.put(place, epoch=self._epoch)
        account.place = self._places[account.id] = place

    async def _settle_place(self, account: Account) -> None:
        """Who is logged in here has its session here; who was logged out has none anywhere."""
        place, instance, card = account.place, self._around.instance, account.card
        ours = place is not None and place.instance == instance
        match account.status.state:
            case State.CONNECTED if place is None or not (ours and place.jid == card.jid):
                await self.own(account)
            case State.LOGGED_OUT if ours:
                await self._disown(account)

    async def _disown(self, account: Account) -> None:
        if self._epoch is not None and self._places.pop(account.id, None) is not None:
            account.place = None
            await self._around.places.forget(account.id, epoch=self._epoch)

    async def start(self, account: Account) -> None:
        """Run again after stopped, replaced or failed; after elsewhere, where an operator says that it is here.

        Raises Conflict, Damaged, Fenced, Unavailable.
        """
        if account.status.state is State.ELSEWHERE and account.status.paired:
            await self.own(account)
        await account.start()

    def kill(self) -> None:
        """End every worker now; what they were sending is judged by the crash rule."""
        for account in self.all():
            if account.worker is not None:
                killing = account.worker.stop(0)
                self._around.loops.once("kill", killing, account=account.id)

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
        return await self.admit(card)

    async def admit(self, card: AccountCard) -> Account:
        """A home for this card.  Raises BadInput, Conflict, StateUnwritable."""
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
            if account.place is not None and account.place.instance == self._around.instance:
                await self._disown(account)
        self._around.bus.publish("account", "removed", account=account.id)
        return path

    async def restore(self, ident: str) -> Account:
        """Bring the latest removed account of this id back.  Raises NotFound, Conflict."""
        account = self._take(await asyncio.to_thread(self._homes.restore, ident))
        self._around.bus.publish("account", "restored", account=account.id)
        return account


async def _nothing(account: Account) -> None:
    pass
