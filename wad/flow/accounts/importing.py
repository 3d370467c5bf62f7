"""Import of a session of the replaced backend, into a new account or one that was never paired.

The files are uploaded over the socket, like files to send: the daemon opens no path of a caller, and usually may not
read the other backend's directory.  Here they are in memory, one import at a time, until the session is written; the
directory itself is never changed.
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
from wad.flow.accounts.account_lookup import names_of
from wad.flow.accounts.accounts import Accounts
from wad.lib.cancellation import uncancellable
from wad.lib.clock import Clock
from wad.state.account_dir import AccountCard, AccountDir, AccountDirs

if TYPE_CHECKING:
    from wad.engine.baileys.translation import Carried

log = logging.getLogger(__name__)

_EXPIRY: Final = 600.0  # seconds that uploaded files wait for the import


@dataclass(frozen=True, slots=True)
class Intent:
    """The plan of an import: this session, into an account with this id."""

    carried: Carried
    ident: str
    name: str
    existing: Account | None


class Imports:
    """The upload of files, and imports."""

    def __init__(
        self,
        accounts: Accounts,
        account_dirs: AccountDirs,
        clock: Clock,
        name: Callable[[], str],
        draw: Callable[[int], bytes],
    ) -> None:
        """`name` returns a random name, `draw(n)` n random bytes."""
        self._accounts = accounts
        self._account_dirs = account_dirs
        self._clock = clock
        self._name = name
        self._draw = draw
        self._upload = ""
        self._files: dict[str, bytes] = {}
        self._size = 0
        self._expiry: asyncio.TimerHandle | None = None

    # --- the upload -------------------------------------------------------------------------------------

    def put(self, upload: str, files: Iterable[tuple[str, bytes]]) -> str:
        """Add files, by name; returns the upload's name; an empty name starts one.  Raises NotFound, TooLong."""
        if not upload:
            self._drop()  # an earlier unfinished upload is discarded
            self._upload = upload = self._name()
            self._expiry = asyncio.get_running_loop().call_later(_EXPIRY, self._drop)
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
            raise NotFound(
                "the uploaded files were not found or have expired", hint="run the command again"
            )

    def _translated(self, files: Mapping[str, bytes], options: ImportOptions) -> Carried:
        # Imported with the first import of a session: most daemons never need it, and it is a tenth of what they load.
        from wad.engine.baileys.translation import translate

        return translate(files, self._draw, skip_damaged=options.skip_damaged)

    def forget(self, upload: str) -> None:
        """Discard an upload."""
        if upload == self._upload:
            self._drop()

    def _drop(self) -> None:
        self._upload, self._files, self._size = "", {}, 0
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # --- the import -------------------------------------------------------------------------------------

    async def plan(self, upload: str, options: ImportOptions) -> Intent:
        """Check everything, and change nothing.  Raises BadInput, Conflict, NotFound."""
        self._check(upload)
        files = self._files
        carried = await asyncio.to_thread(self._translated, files, options)
        ident = account_id(options.ident or _default_id(options.directory, carried.device.phone))
        existing = await self._existing(ident)
        self._check_owner(carried, ident)
        name = existing.card.name if existing else self._free_name(options, carried, ident)
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
        """Check that the phone number belongs to this account and to no other.  Raises Conflict."""
        phone = carried.device.phone
        for account in self._accounts.all():
            theirs = _phone(account)
            if account.id != ident and theirs == phone:
                raise Conflict(
                    f"{phone} is account {account.id} already",
                    hint=f"use --id {account.id} to import the session there, if it has none",
                )
            if account.id == ident and theirs not in ("", phone):
                raise Conflict(
                    f"account {ident} has number {theirs}, and this is a session of {phone}"
                )

    def _free_name(self, options: ImportOptions, carried: Carried, ident: str) -> str:
        device = carried.device
        others = [names_of(account.card) for account in self._accounts.all()]

        def why_not(name: str) -> str:
            return clash(Names(ident, name, device.phone), others)

        requested = check_name(options.name) if options.name else ""
        if requested and (why := why_not(requested)):
            raise Conflict(why, hint="choose another name")
        wanted = [requested, shown_name(device.push_name) if device.push_name else ""]
        return next((name for name in wanted if name and not why_not(name)), device.phone)

    async def run(self, upload: str, options: ImportOptions) -> tuple[Account, Intent]:
        """Write the session, move it into the account's directory by a rename, and start the account.

        Raises as above, EngineFailure, Passive, StateUnwritable.
        """
        async with self._accounts.changing:
            intent = await self.plan(upload, options)
            self.forget(upload)
            try:
                account_dir = await uncancellable(
                    asyncio.to_thread(self._account_dirs.make_incoming, intent.ident)
                )
                account = await self._imported(intent, account_dir)
            finally:
                await uncancellable(asyncio.to_thread(self._account_dirs.drop_incoming))
            log.info("imported a session", extra={"account": account.id})
            return account, intent

    async def _imported(self, intent: Intent, account_dir: AccountDir) -> Account:
        await self._accounts.engine.write_session(account_dir.session_db, intent.carried)
        # Checked again: the accounts may have changed while the file was written.
        self._check_owner(intent.carried, intent.ident)
        if not self._accounts.leading:
            raise Passive("the lease was lost during the import: nothing was changed")
        if (account := intent.existing) is not None:
            await account.take_session(account_dir.session_db)
            return account
        card = self._card(intent)
        self._accounts.creation.check_names(card)

        def work() -> AccountDir:
            account_dir.write_card(card)
            return self._account_dirs.settle(account_dir)

        return await self._accounts.creation.make(card.id, work, "imported")

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
    """The directory's name, which the replaced backend uses as the account's id; else one made from the number."""
    try:
        return account_id(directory)
    except BadInput:
        return f"acc-{phone[1:]}"


def _phone(account: Account) -> str:
    if account.card.phone or not account.card.jid:
        return account.card.phone
    return f"+{Jid.parse(account.card.jid).user}"
