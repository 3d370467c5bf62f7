"""What lies on the disk for an account: the only place that knows the layout.

    SESSIONS/
      .cards/             mode 0700; ACCOUNT.json: who it is, and whether it should run
      ACCOUNT/            mode 0700
        account.json      a copy of its card
        session.db        the library's keys: the session
        spool.db          the durable inbox
        worker.lock       held by the account's worker while it lives
      .removed/           accounts that were put away: ACCOUNT.STAMP
      .incoming/          an account that is being made of another backend's session
An account's directory is its worker's, which may have been taken over.  So the card that counts lies where no worker
may write; the copy beside the session is for whoever takes the directory elsewhere, puts it away or brings it back, and
counts only where there is no other.
Nothing here is ever deleted: what is damaged or removed is renamed.  What is incoming is no account yet: it becomes one
by a rename, and what a crash left of it goes when the next one comes.
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
    """An account that was put away."""

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
        """The card that counts."""
        self.card_copy = path / _CARD
        """The copy, which a worker may write."""

    def card(self) -> AccountCard:
        """Who it is; a card that is missing or damaged is made anew, since the session is what counts."""
        return self._read_card().card

    def _read_card(self) -> ReadCard:
        return read_card(self._card_in_use, self.id)

    @property
    def _card_in_use(self) -> Path:
        return self.card_file if os.path.lexists(self.card_file) else self.card_copy

    def mended_card(self) -> ReadCard:
        """The same for who may write here: a damaged card is set aside now, so that an operator sees that it was.

        A card that lies in the account's directory only is taken over, before a worker can write there.
        """
        found = self._read_card()
        if found.unread:
            log.error("cannot read %s: %s", self._card_in_use, found.unread)
            return found
        if found.damage:
            log.error("%s: see the account's name and phone", found.damage)
        if found.damage or not os.path.lexists(self.card_file):
            try:
                self.write_card(found.card)
            except StateUnwritable as error:
                log.warning("the card of %s stays as it is: %s", self.id, error)
        return found

    def write_card(self, card: AccountCard) -> None:
        """Replace the card, whole or not at all; a damaged one is kept in the account's directory.

        Raises StateUnwritable, also where it is not known what would be replaced.
        """
        text = msgspec.json.format(msgspec.json.encode(named(card, self.id))) + b"\n"
        found = self._read_card()
        if found.unread:
            raise StateUnwritable(f"cannot read {self._card_in_use}: {found.unread}")
        try:
            if found.damage:
                self._card_in_use.rename(_unused(self.card_copy.with_suffix(".json.damaged")))
            _make_private(self.card_file.parent)
        except OSError as error:
            raise unwritable(self.card_file, error) from error
        write_file(self.card_copy, text)
        write_file(self.card_file, text)

    def drop_card(self) -> None:
        """Delete what a crash left of the card of an account that had this id before.  Raises OSError."""
        self.card_file.unlink(missing_ok=True)

    def pack_card(self) -> None:
        """Put the card into the directory, in the place of the copy.  No worker may run.  Raises OSError."""
        if os.path.lexists(self.card_file):
            self.card_file.replace(self.card_copy)
            sync_directory(self.path)

    def exists(self) -> bool:
        """Whether anything of an account lies here."""
        return os.path.lexists(self.path) and any(
            map(os.path.lexists, (self.card_file, self.card_copy, self.session_db))
        )

    def has_session(self) -> bool:
        """Whether there is a session's file with something in it; what it says, the engine knows."""
        try:
            return self.session_db.stat().st_size > 0
        except FileNotFoundError:
            return False

    def write_session(self, session: bytes) -> None:
        """Put down a session that came from another machine.  Raises StateUnwritable."""
        write_file(self.session_db, session)

    def aside_path(self, file: Path, stamp: str, why: str = "damaged") -> Path:
        """Where `set_aside` would put it now."""
        return _unused(file.with_name(f"{file.name}.{why}-{stamp}"))

    def set_aside(self, file: Path, stamp: str, why: str = "damaged") -> Path:
        """Rename a database that is of no more use, with its log, to NAME.WHY-STAMP; the new name.

        Nobody may have it open.  An earlier one of the same stamp is kept, too.  Raises StateUnwritable.
        """
        aside = self.aside_path(file, stamp, why)
        parts = [file.with_name(file.name + suffix) for suffix in ("", "-wal", "-shm")]
        try:
            if has_lost_its_database(file):
                pad(file)
            parts = [part for part in parts if part.exists()]
            # Linked first, all of them: a crash between two renames would part the database from its log, and SQLite
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
        """Put a session's file here by a rename; a file without a session makes way.  Raises StateUnwritable.

        Nobody may have the old one open.
        """
        if self.session_db.exists():
            self.set_aside(self.session_db, stamp, "unpaired")
        try:
            file.rename(self.session_db)
            sync_directory(self.path)
        except OSError as error:
            raise unwritable(self.session_db, error) from error


class AccountDirs:
    """The directory of all accounts."""

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
        return [home for home in found if home.exists()]

    def get(self, ident: str) -> AccountDir:
        """The home of this account.  Raises UnknownAccount."""
        home = self._home(ident)
        if home is None or not home.exists():
            known = ", ".join(other.id for other in self.all()) or "none"
            raise UnknownAccount(f"there is no account {ident!r}", hint=f"accounts here: {known}")
        return home

    def _home(self, ident: str) -> AccountDir | None:
        try:
            return AccountDir(self.root / account_id(ident))
        except BadInput:
            return None  # no account can have this id

    def create(self, card: AccountCard) -> AccountDir:
        """Make a home; a directory without card and session is used.  Raises BadInput, Conflict, StateUnwritable."""
        home = AccountDir(self.root / account_id(card.id))
        if home.exists():
            raise Conflict(
                f"there is an account {card.id!r} already", hint="choose another id, or remove it"
            )
        try:
            home.drop_card()
            home.path.mkdir(mode=0o700, exist_ok=True)
            home.path.chmod(0o700)
            sync_directory(self.root)
            home.write_card(card)
        except OSError as error:
            _unmake(home)
            raise unwritable(home.path, error) from error
        except StateUnwritable:
            _unmake(home)
            raise
        return home

    @contextmanager
    def incoming(self, ident: str) -> Iterator[AccountDir]:
        """A home that is no account yet, empty, and gone at the end unless `settle` was called.

        For one at a time: it also takes away what a crash left.  Raises BadInput, StateUnwritable.
        """
        root = self.root / _INCOMING
        home = AccountDir(root / account_id(ident))
        try:
            if root.exists():
                shutil.rmtree(root)
            root.mkdir(mode=0o700)
            home.path.mkdir(mode=0o700)
        except OSError as error:
            raise unwritable(root, error) from error
        try:
            yield home
        finally:
            shutil.rmtree(
                root, ignore_errors=True
            )  # what stays is no account, and goes the next time

    def settle(self, incoming: AccountDir) -> AccountDir:
        """Make an incoming home an account: whole, or not at all.  Raises Conflict, StateUnwritable."""
        home = AccountDir(self.root / incoming.id)
        if home.exists():
            raise Conflict(f"there is an account {home.id!r} already")
        try:
            sync_directory(incoming.path)
            home.drop_card()
            incoming.path.rename(home.path)
            sync_directory(self.root)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise Conflict(
                    f"{home.path} is there, and is no account", hint="move it away, or give --id"
                ) from error
            raise unwritable(home.path, error) from error
        return home

    def remove(self, ident: str, stamp: str) -> Path:
        """Put an account away by renaming; where it lies now.  Nobody may have it open.

        `stamp` sorts by time and is without a dot.  Raises UnknownAccount, StateUnwritable.
        """
        home, removed = self.get(ident), self.root / _REMOVED
        try:
            removed.mkdir(mode=0o700, exist_ok=True)
            target = _unused(removed / f"{ident}.{stamp}")
            home.pack_card()
            home.path.rename(target)
            sync_directory(removed)
            sync_directory(self.root)
        except OSError as error:
            home.mended_card()
            raise unwritable(home.path, error) from error
        return target

    def removed(self) -> list[RemovedAccount]:
        """The accounts that were put away, by id and time."""
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
        """Bring a removed account back.  Raises Conflict, StateUnwritable."""
        target = AccountDir(self.root / account_id(removed.id))
        taken = Conflict(
            f"there is an account {removed.id!r} already", hint="remove that one first"
        )
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


def _unmake(home: AccountDir) -> None:
    """Leave nothing of what could not be made; what else lies there stays."""
    for step in (partial(home.card_copy.unlink, missing_ok=True), home.drop_card, home.path.rmdir):
        with suppress(OSError):
            step()


def _make_private(directory: Path) -> None:
    """Make a directory of the daemon's own, where there is none.  Raises OSError."""
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
    """This path, or with a number after it where something lies there already: nothing is ever overwritten."""
    number, candidate = 1, path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number:02}")
    return candidate


# --- locks ------------------------------------------------------------------------------------


def state_lock(directory: Path) -> Path:
    """The file that the one daemon of a state directory has locked."""
    return directory / "wad.lock"


class StateLock:
    """One daemon a state directory.  The kernel lets go of the lock when the process dies, however it dies."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._file = state_lock(directory)
        self._boot_id = boot_id
        self._fd = -1

    def __enter__(self) -> StateLock:
        """Take it.  Raises AnotherDaemon naming the holder's pid, StateUnwritable."""
        self._fd = _lock(self._file, "daemon", "the state directory", self._boot_id)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)


def lock_account(home: AccountDir) -> int:
    """Take an account's lock for as long as the file descriptor lives.  Raises AnotherDaemon, StateUnwritable."""
    return _lock(home.lock_file, "worker", f"account {home.id}", "")


def _lock(file: Path, who: str, what: str, note: str) -> int:
    """Lock a file and write our pid and `note` into it, for those who come second."""
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
            f"another {who} (pid {pid}) has {what}",
            hint=f"ps -fp {pid} shows it; stop it first, or use another state directory",
        ) from None
    except OSError as error:
        os.close(fd)
        raise unwritable(file, error) from error
    return fd


# --- the disk -------------------------------------------------------------------------------------


def check_writable(directory: Path) -> None:
    """Write, sync and delete a small file: permission bits alone tell root nothing.  Raises StateUnwritable."""
    probe = directory / f".probe-{os.getpid()}"
    try:
        try:
            write_synced(probe, b"x" * 4096)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from error
