"""A session of the backend that wad replaces becomes an account: one that is new, or one that was never paired.

The files come over the socket, as files to send do: the daemon opens no path that somebody names, and the other
backend's directory is usually not the daemon's to read.  Here they lie in memory, one import at a time, until the
session is made; the directory itself is never written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wad.core.account_reference import Names, clash
from wad.core.baileys import FILES_LIMIT, TOTAL_LIMIT, ImportOptions
from wad.core.errors import BadInput, Conflict, NotFound, Passive, TooLong, UnknownAccount
from wad.core.jid import Jid, account_id
from wad.core.names import check_name, shown_name
from wad.flow.accounts.account import Account
from wad.flow.accounts.accounts import Accounts, names_of
from wad.lib.clock import Clock
from wad.state.account_dir import AccountCard, AccountDirs

if TYPE_CHECKING:
    from wad.engine.baileys.translation import Carried

log = logging.getLogger(__name__)

_KEPT: Final = 600.0  # seconds that files wait for the word to make something of them


@dataclass(frozen=True, slots=True)
class Intent:
    """What an import would do: carry this, into an account of this id."""

    carried: Carried
    ident: str
    name: str
    existing: Account | None


class Imports:
    """What is on its way in."""

    def __init__(
        self,
        accounts: Accounts,
        homes: AccountDirs,
        clock: Clock,
        name: Callable[[], str],
        draw: Callable[[int], bytes],
    ) -> None:
        """`name` gives a random name, `draw` so many random bytes."""
        self._accounts = accounts
        self._homes = homes
        self._clock = clock
        self._name = name
        self._draw = draw
        self._upload = ""
        self._files: dict[str, bytes] = {}
        self._size = 0
        self._expiry: asyncio.TimerHandle | None = None

    # --- files on their way in ----------------------------------------------------------------------

    def put(self, upload: str, files: Iterable[tuple[str, bytes]]) -> str:
        """Take files, by name; the upload's name, which an empty text begins.  Raises NotFound, TooLong."""
        if not upload:
            self._drop()  # whoever began before and did not end it has to begin again
            self._upload = upload = self._name()
            self._expiry = asyncio.get_running_loop().call_later(_KEPT, self._drop)
        self._check(upload)
        for name, data in files:
            self._size += len(data)
            self._files[name] = data
        if self._size > TOTAL_LIMIT or len(self._files) > FILES_LIMIT:
            self._drop()
            raise TooLong(
                f"a session has at most {FILES_LIMIT} files and {TOTAL_LIMIT >> 20} MiB",
                hint="name the directory of one session",
            )
        return upload

    def _check(self, upload: str) -> None:
        if not upload or upload != self._upload:
            raise NotFound("these files are not here (any more)", hint="run the command again")

    def _translated(self, files: Mapping[str, bytes], wish: ImportOptions) -> Carried:
        # Loaded with the first import: most daemons see none, and it is a tenth of what they load to start.
        from wad.engine.baileys.translation import translate

        return translate(files, self._draw, skip_damaged=wish.skip_damaged)

    def forget(self, upload: str) -> None:
        """Nobody will ask for these files any more."""
        if upload == self._upload:
            self._drop()

    def _drop(self) -> None:
        self._upload, self._files, self._size = "", {}, 0
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # --- what becomes of them -------------------------------------------------------------------------

    async def look(self, upload: str, wish: ImportOptions) -> Intent:
        """Check everything, and change nothing.  Raises BadInput, Conflict, NotFound."""
        self._check(upload)
        files = self._files
        carried = await asyncio.to_thread(self._translated, files, wish)
        ident = account_id(wish.ident or _default_id(wish.directory, carried.device.phone))
        existing = await self._existing(ident)
        self._check_owner(carried, ident)
        name = existing.card.name if existing else self._free_name(wish, carried, ident)
        return Intent(carried, ident, name, existing)

    async def _existing(self, ident: str) -> Account | None:
        try:
            account = self._accounts.find(ident)
        except UnknownAccount:
            return None
        if account.id != ident:
            raise Conflict(f"{ident!r} names account {account.id}", hint=f"--id {account.id}")
        await account.check_unpaired()
        return account

    def _check_owner(self, carried: Carried, ident: str) -> None:
        """The number belongs to this account and to no other.  Raises Conflict."""
        phone = carried.device.phone
        for account in self._accounts.all():
            theirs = _phone(account)
            if account.id != ident and theirs == phone:
                raise Conflict(
                    f"{phone} is account {account.id} already",
                    hint=f"--id {account.id} puts the session there, if it has none",
                )
            if account.id == ident and theirs not in ("", phone):
                raise Conflict(f"account {ident} is {theirs}, and this is a session of {phone}")

    def _free_name(self, wish: ImportOptions, carried: Carried, ident: str) -> str:
        device = carried.device
        others = [names_of(account.card) for account in self._accounts.all()]

        def why_not(name: str) -> str:
            return clash(Names(ident, name, device.phone), others)

        wished = check_name(wish.name) if wish.name else ""
        if wished and (why := why_not(wished)):
            raise Conflict(why, hint="choose another name")
        wanted = [wished, shown_name(device.push_name) if device.push_name else ""]
        return next((name for name in wanted if name and not why_not(name)), device.phone)

    async def make(self, upload: str, wish: ImportOptions) -> tuple[Account, Intent]:
        """Make the session, put it in its place by a rename, and let the account run.

        Raises as above, EngineFailure, Passive, StateUnwritable.
        """
        async with self._accounts.changing:
            intent = await self.look(upload, wish)
            self.forget(upload)
            with self._homes.incoming(intent.ident) as home:
                await self._accounts.engine.write_session(home.session_db, intent.carried)
                # Asked again: the world went on while the file was written.
                self._check_owner(intent.carried, intent.ident)
                if not self._accounts.reigning:
                    raise Passive("the lease went while the session was made: nothing was done")
                if (account := intent.existing) is not None:
                    await account.take_session(home.session_db)
                else:
                    card = self._card(intent)
                    self._accounts.check_names(card)
                    home.write_card(card)
                    await self._accounts.expect_new(card.id)
                    account = await self._accounts.adopt(self._homes.settle(home))
            log.info("imported a session", extra={"account": account.id})
            return account, intent

    def _card(self, intent: Intent) -> AccountCard:
        device = intent.carried.device
        return AccountCard(
            id=intent.ident,
            name=intent.name,
            phone=device.phone,
            created_ms=self._clock.wall_ms(),
            jid=device.jid,
            lid=device.lid,
            push_name=device.push_name,
        )


def _default_id(directory: str, phone: str) -> str:
    """The directory's name, which with the reference is the account's id; else one made from the number."""
    try:
        return account_id(directory)
    except BadInput:
        return f"acc-{phone[1:]}"


def _phone(account: Account) -> str:
    if account.card.phone or not account.card.jid:
        return account.card.phone
    return f"+{Jid.parse(account.card.jid).user}"
