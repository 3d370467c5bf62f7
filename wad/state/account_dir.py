"""The account directories and their layout on the disk.  No other module knows the layout.

    SESSIONS/
      .cards/             mode 0700; ACCOUNT.json: the account's card
      ACCOUNT/            mode 0700
        account.json      a copy of its card
        session.db        the library's keys: the session
        spool.db          the spool
        worker.lock       held by the account's worker while it runs
      .removed/           removed accounts: ACCOUNT.STAMP
      .incoming/          an account that is being imported from another backend's session
A worker, which may be compromised, can write to its account directory.  So the valid card is stored where no worker may
write; the copy beside the session is for moving, removing and restoring the directory, and is used only if there is no
other card.
No account is ever deleted: damaged files and removed accounts are renamed.  An incoming directory is not an account
yet: a rename makes it one, and the next import deletes what a crash has left of it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from wad.core.errors import (
    AnotherDaemon,
    BadInput,
    Conflict,
    StateUnwritable,
    UnknownAccount,
)
from wad.core.jid import account_id
from wad.lib.files import give_to_owner, sync_directory, unwritable, write_file, write_synced
from wad.lib.sqlite_file import has_lost_its_database, pad
from wad.state.card import AccountCard as AccountCard
from wad.state.card import ReadCard, named, read_card

log = logging.getLogger(__name__)

_CARD: Final = "account.json"
_CARDS: Final = ".cards"
_REMOVED: Final = ".removed"
_INCOMING: Final = ".incoming"


class RemovedAccount(msgspec.Struct, frozen=True):
    """A removed account."""

    id: str
    stamp: str
    path: Path
    card: AccountCard


class AccountDir:
    """One account's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.session_db = path / "session.db"
        self.spool_db = path / "spool.db"
        self.lock_file = path / "worker.lock"
        self.card_file = path.parent / _CARDS / f"{path.name}.json"
        """The valid card."""
        self.card_copy = path / _CARD
        """The copy of the card, which a worker can write."""

    def card(self) -> AccountCard:
        """The account's card; a default replaces a missing or damaged card, since only the session is essential."""
        return self._read_card().card

    def _read_card(self) -> ReadCard:
        return read_card(self._card_in_use, self.id)

    @property
    def _card_in_use(self) -> Path:
        return self.card_file if os.path.lexists(self.card_file) else self.card_copy

    def mended_card(self) -> ReadCard:
        """Read the card, and set a damaged one aside, so that the operator sees it.  Needs write permission.

        A card that exists in the account directory only is copied, before a worker can write there.
        """
        found = self._read_card()
        if found.unread:
            log.error("cannot read %s: %s", self._card_in_use, found.unread)
            return found
        if found.damage:
            log.error("%s: check the account's name and phone number", found.damage)
        if found.damage or not os.path.lexists(self.card_file):
            try:
                self.write_card(found.card)
            except StateUnwritable as error:
                log.warning("the card of %s was not replaced: %s", self.id, error)
        return found

    def write_card(self, card: AccountCard) -> None:
        """Replace the card, whole or not at all; a damaged card is renamed, in the account directory.

        The copy there is replaced if that is possible.
        Raises StateUnwritable, also if the present card cannot be read.
        """
        text = msgspec.json.format(msgspec.json.encode(named(card, self.id))) + b"\n"
        found = self._read_card()
        if found.unread:
            raise StateUnwritable(f"cannot read {self._card_in_use}: {found.unread}")
        try:
            self.path.stat()  # without its directory there is no account, and no card of one
            if found.damage:
                self._card_in_use.rename(_unused(self.card_copy.with_suffix(".json.damaged")))
            _make_private(self.card_file.parent)
        except OSError as error:
            raise unwritable(self.card_file, error) from error
        write_file(self.card_file, text)
        try:
            write_file(self.card_copy, text)
        except StateUnwritable as error:
            # The worker's directory: an order to stop it, say, must not depend on what it left there.
            log.warning("the copy of the card of %s is out of date: %s", self.id, error)

    def drop_card(self) -> None:
        """Delete the card that a crash has left of an earlier account with this id.  Raises OSError."""
        self.card_file.unlink(missing_ok=True)

    def pack_card(self) -> None:
        """Move the card into the directory, over its copy.  No worker may run.  Raises OSError."""
        if os.path.lexists(self.card_file):
            if self.card_copy.is_dir() and not self.card_copy.is_symlink():
                self.card_copy.rename(_unused(self.card_copy.with_suffix(".json.damaged")))
            self.card_file.replace(self.card_copy)
            sync_directory(self.path)

    def exists(self) -> bool:
        """Whether the directory contains an account: it has a card or a session."""
        return os.path.lexists(self.path) and any(
            map(os.path.lexists, (self.card_file, self.card_copy, self.session_db))
        )

    def write_session(self, session: bytes) -> None:
        """Write a session that was moved from another machine.  Raises StateUnwritable."""
        write_file(self.session_db, session)

    def aside_path(self, file: Path, stamp: str, why: str = "damaged") -> Path:
        """The path to which `set_aside` would rename the file now."""
        return _unused(file.with_name(f"{file.name}.{why}-{stamp}"))

    def set_aside(self, file: Path, stamp: str, why: str = "damaged") -> Path:
        """Rename an unusable database, with its log, to NAME.WHY-STAMP; return the new path.

        No process may have it open.  An earlier copy with the same stamp is kept, too.  Raises StateUnwritable.
        """
        aside = self.aside_path(file, stamp, why)
        parts = [file.with_name(file.name + suffix) for suffix in ("", "-wal", "-shm")]
        try:
            if has_lost_its_database(file):
                pad(file)
            parts = [part for part in parts if part.exists()]
            # All are linked first: a crash between two renames would separate the database from its log, and SQLite
            # deletes a log that it finds beside a new database.
            for part in parts:
                os.link(part, aside.with_name(aside.name + part.name.removeprefix(file.name)))
            sync_directory(self.path)
            for part in parts:
                part.unlink()
            sync_directory(self.path)
        except OSError as error:
            raise unwritable(file, error) from error
        return aside

    def take_session(self, file: Path, stamp: str) -> None:
        """Move a session file here by a rename; a present file without a session is set aside.

        No process may have the present file open.  Raises StateUnwritable.
        """
        if self.session_db.exists():
            self.set_aside(self.session_db, stamp, "unpaired")
        try:
            file.rename(self.session_db)
            sync_directory(self.path)
        except OSError as error:
            raise unwritable(self.session_db, error) from error


class AccountDirs:
    """The directory of all account directories."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def all(self) -> list[AccountDir]:
        """Every account that has a card or a session, by id.  Raises StateUnwritable."""
        try:
            paths = sorted(self.root.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unwritable(self.root, error) from error
        found = [AccountDir(path) for path in paths if _is_account(path)]
        return [account_dir for account_dir in found if account_dir.exists()]

    def get(self, ident: str) -> AccountDir:
        """The directory of this account.  Raises UnknownAccount."""
        account_dir = self._account_dir(ident)
        if account_dir is None or not account_dir.exists():
            known = ", ".join(other.id for other in self.all()) or "none"
            raise UnknownAccount(f"there is no account {ident!r}", hint=f"accounts here: {known}")
        return account_dir

    def _account_dir(self, ident: str) -> AccountDir | None:
        try:
            return AccountDir(self.root / account_id(ident))
        except BadInput:
            return None  # no account can have this id

    def create(self, card: AccountCard) -> AccountDir:
        """Create an account directory, or use an empty one.  Raises BadInput, Conflict, StateUnwritable."""
        account_dir = AccountDir(self.root / account_id(card.id))
        if account_dir.exists():
            raise Conflict(
                f"the account {card.id!r} already exists", hint="choose another id, or remove it"
            )
        try:
            account_dir.drop_card()
            account_dir.path.mkdir(mode=0o700, exist_ok=True)
            account_dir.path.chmod(0o700)
            sync_directory(self.root)
            account_dir.write_card(card)
        except OSError as error:
            _unmake(account_dir)
            raise unwritable(account_dir.path, error) from error
        except StateUnwritable:
            _unmake(account_dir)
            raise
        return account_dir

    @contextmanager
    def incoming(self, ident: str) -> Iterator[AccountDir]:
        """An empty directory that is not an account yet; it is deleted at the end unless `settle` was called.

        Only one may exist at a time.  Raises BadInput, StateUnwritable.
        """
        account_dir = self.make_incoming(ident)
        try:
            yield account_dir
        finally:
            self.drop_incoming()

    def make_incoming(self, ident: str) -> AccountDir:
        """Create the empty directory of `incoming`; what a crash has left is deleted first.

        Raises BadInput, StateUnwritable.
        """
        root = self.root / _INCOMING
        account_dir = AccountDir(root / account_id(ident))
        try:
            if root.exists():
                shutil.rmtree(root)
            root.mkdir(mode=0o700)
            account_dir.path.mkdir(mode=0o700)
        except OSError as error:
            raise unwritable(root, error) from error
        return account_dir

    def drop_incoming(self) -> None:
        """Delete an incoming directory that was not settled."""
        # An error is ignored: the rest is not an account, and the next import deletes it.
        shutil.rmtree(self.root / _INCOMING, ignore_errors=True)

    def settle(self, incoming: AccountDir) -> AccountDir:
        """Make an incoming directory an account: whole, or not at all.  Raises Conflict, StateUnwritable."""
        account_dir = AccountDir(self.root / incoming.id)
        if account_dir.exists():
            raise Conflict(
                f"the account {account_dir.id!r} already exists", hint="choose another id: --id"
            )
        try:
            sync_directory(incoming.path)
            account_dir.drop_card()
            incoming.path.rename(account_dir.path)
            sync_directory(self.root)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise Conflict(
                    f"{account_dir.path} exists, but is not an account",
                    hint="move it away, or give --id",
                ) from error
            raise unwritable(account_dir.path, error) from error
        return account_dir

    def remove(self, ident: str, stamp: str) -> Path:
        """Remove an account by renaming its directory; return the new path.  No process may have its files open.

        `stamp` sorts by time and contains no dot.  Raises UnknownAccount, StateUnwritable.
        """
        account_dir, removed = self.get(ident), self.root / _REMOVED
        try:
            removed.mkdir(mode=0o700, exist_ok=True)
            target = _unused(removed / f"{ident}.{stamp}")
            account_dir.pack_card()
            account_dir.path.rename(target)
            sync_directory(removed)
            sync_directory(self.root)
        except OSError as error:
            account_dir.mended_card()
            raise unwritable(account_dir.path, error) from error
        return target

    def removed(self) -> list[RemovedAccount]:
        """The removed accounts, by id and time."""
        directory = self.root / _REMOVED
        found = []
        for path in sorted(directory.iterdir()) if directory.exists() else []:
            ident, dot, stamp = path.name.partition(".")
            if dot and path.is_dir():
                found.append(
                    RemovedAccount(ident, stamp, path, read_card(path / _CARD, ident).card)
                )
        return found

    def restore(self, removed: RemovedAccount) -> AccountDir:
        """Restore a removed account.  Raises Conflict, StateUnwritable."""
        target = AccountDir(self.root / account_id(removed.id))
        taken = Conflict(f"the account {removed.id!r} already exists", hint="remove that one first")
        if target.exists():
            raise taken
        try:
            target.drop_card()
            removed.path.rename(target.path)
            sync_directory(self.root)
            sync_directory(self.root / _REMOVED)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise taken from error
            raise unwritable(target.path, error) from error
        return target


def _unmake(account_dir: AccountDir) -> None:
    """Undo a failed creation; other files in the directory stay."""
    for step in (
        partial(account_dir.card_copy.unlink, missing_ok=True),
        account_dir.drop_card,
        account_dir.path.rmdir,
    ):
        with suppress(OSError):
            step()


def _make_private(directory: Path) -> None:
    """Create a private directory of the daemon, if there is none.  Raises OSError."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            give_to_owner(fd, directory.parent)
        finally:
            os.close(fd)
        sync_directory(directory.parent)


def _is_account(path: Path) -> bool:
    try:
        return path.is_dir() and bool(account_id(path.name))
    except BadInput:
        return False


def _unused(path: Path) -> Path:
    """This path, with a number appended if it exists already: nothing is ever overwritten."""
    number, candidate = 1, path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number:02}")
    return candidate


# --- locks ------------------------------------------------------------------------------------


def state_lock(directory: Path) -> Path:
    """The lock file of a state directory's only daemon."""
    return directory / "wad.lock"


class StateLock:
    """The lock of a state directory: only one daemon has it.  The kernel releases it when the process ends."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._file = state_lock(directory)
        self._boot_id = boot_id
        self._fd = -1

    def __enter__(self) -> StateLock:
        """Take the lock.  Raises AnotherDaemon with the holder's pid, StateUnwritable."""
        self._fd = _lock(self._file, "daemon", "the state directory", self._boot_id)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)


def lock_account(account_dir: AccountDir) -> int:
    """Take an account's lock until the returned file descriptor is closed.  Raises AnotherDaemon, StateUnwritable."""
    return _lock(account_dir.lock_file, "worker", f"account {account_dir.id}", "")


def _lock(file: Path, who: str, what: str, note: str) -> int:
    """Lock a file, and write our pid and `note` into it for the error of the next process."""
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(file, error) from error
    try:
        give_to_owner(fd, file.parent)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()} {note}\n".encode())
    except BlockingIOError:
        pid = (os.read(fd, 100).decode(errors="replace").split() or ["unknown"])[0]
        os.close(fd)
        raise AnotherDaemon(
            f"another {who} (pid {pid}) has locked {what}",
            hint=f"stop that process first (ps -fp {pid} shows it), or use another state directory",
        ) from None
    except OSError as error:
        os.close(fd)
        raise unwritable(file, error) from error
    return fd


# --- the disk -------------------------------------------------------------------------------------


def check_writable(directory: Path) -> None:
    """Write, sync and delete a small file, since permission bits do not apply to root.  Raises StateUnwritable."""
    probe = directory / f".probe-{os.getpid()}"
    try:
        try:
            write_synced(probe, b"x" * 4096)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from error
