"""What lies on the disk for an account: the only place that knows the layout.

    SESSIONS/
      ACCOUNT/            mode 0700
        account.json      who it is, and whether it should run
        session.db        the library's keys: the session
        spool.db          the durable inbox
        worker.lock       held by the account's worker while it lives
      .removed/           accounts that were put away: ACCOUNT.STAMP
      .incoming/          an account that is being made of another backend's session
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
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from wad.core.autoreply import AutoReply
from wad.core.decoding import decoding
from wad.core.ending import Ending
from wad.core.errors import (
    AnotherDaemon,
    BadInput,
    Conflict,
    InvalidData,
    NotFound,
    StateUnwritable,
    UnknownAccount,
)
from wad.core.jid import Jid, account_id, phone_digits
from wad.core.names import shown_name
from wad.core.past import Backfill
from wad.files import give_to_owner, read_file, sync_directory, unwritable, write_file, write_synced

log = logging.getLogger(__name__)

_CARD: Final = "account.json"
_LARGEST_CARD: Final = 1 << 20  # bytes; an auto-reply is the largest part of it
_LATEST: Final = 253_402_300_799_999  # ms since 1970: the end of the year 9999
_REMOVED: Final = ".removed"
_INCOMING: Final = ".incoming"


class AccountCard(msgspec.Struct, frozen=True, kw_only=True):
    """Who the account is.  `enabled`: it should run.  jid, lid and push_name as of its last login.

    `exported_ms`: when its session was given away, ms since 1970; 0 where it was not, or came back.  `auto_reply`: None
    until somebody has set it.  `backfill`: what the last run brought; None before the first.  `ended`: how it came to
    rest; None while it did not.  `stopped_ms`: when an operator stopped it, where it is not enabled.
    """

    id: str
    name: str
    phone: str = ""
    created_ms: int = 0
    enabled: bool = True
    jid: str = ""
    lid: str = ""
    push_name: str = ""
    exported_ms: int = 0
    auto_reply: AutoReply | None = None
    backfill: Backfill | None = None
    ended: Ending | None = None
    stopped_ms: int = 0


class Removed(msgspec.Struct, frozen=True):
    """An account that was put away."""

    id: str
    stamp: str
    path: Path
    card: AccountCard


class Home:
    """One account's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.session_db = path / "session.db"
        self.spool_db = path / "spool.db"
        self.lock_file = path / "worker.lock"
        self._card_file = path / _CARD

    def card(self) -> AccountCard:
        """Who it is; a card that is missing or damaged is made anew, since the session is what counts."""
        return _card(self._card_file, self.id)

    def mended_card(self) -> AccountCard:
        """The same for who may write here: a damaged card is set aside now, so that an operator sees that it was."""
        card = self.card()
        if os.path.lexists(self._card_file) and _read_card(self._card_file) is None:
            log.error("%s cannot be read: see the account's name and phone", self._card_file)
            try:
                self.write_card(card)
            except StateUnwritable as error:
                log.warning("it stays where it is: %s", error)
        return card

    def write_card(self, card: AccountCard) -> None:
        """Replace the card, whole or not at all; a damaged one is kept beside it.  Raises StateUnwritable."""
        text = msgspec.json.format(msgspec.json.encode(_named(card, self.id))) + b"\n"
        try:
            if os.path.lexists(self._card_file) and _read_card(self._card_file) is None:
                self._card_file.rename(_unused(self._card_file.with_suffix(".json.damaged")))
        except OSError as error:
            raise unwritable(self._card_file, error) from error
        write_file(self._card_file, text)

    def exists(self) -> bool:
        """Whether anything of an account lies here."""
        return self._card_file.exists() or self.session_db.exists()

    def has_session(self) -> bool:
        """Whether there is a session's file with something in it; what it says, the engine knows."""
        try:
            return self.session_db.stat().st_size > 0
        except FileNotFoundError:
            return False

    def write_session(self, session: bytes) -> None:
        """Put down a session that came from another machine.  Raises StateUnwritable."""
        write_file(self.session_db, session)

    def set_aside(self, file: Path, stamp: str, why: str = "damaged") -> Path:
        """Rename a database that is of no more use, with its log, to NAME.WHY-STAMP; the new name.

        Nobody may have it open.  An earlier one of the same stamp is kept, too.  Raises StateUnwritable.
        """
        aside = _unused(file.with_name(f"{file.name}.{why}-{stamp}"))
        parts = [file.with_name(file.name + suffix) for suffix in ("", "-wal", "-shm")]
        parts = [part for part in parts if part.exists()]
        try:
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


def _card(file: Path, ident: str) -> AccountCard:
    return _named(_read_card(file) or AccountCard(id=ident, name=ident), ident)


def _read_card(file: Path) -> AccountCard | None:
    """The card, or None where there is none that can be read."""
    try:
        data = read_file(file, _LARGEST_CARD)
        with decoding(str(file)):
            return _sound(msgspec.json.decode(data, type=AccountCard))
    except (OSError, InvalidData):
        return None


def _sound(card: AccountCard) -> AccountCard:
    """Raise BadInput where it says what no account can have."""
    for address in filter(None, (card.jid, card.lid)):
        Jid.parse(address)
    if card.phone:
        phone_digits(card.phone)
    for ms in (card.created_ms, card.exported_ms):
        if not 0 <= ms <= _LATEST:
            raise InvalidData(f"the time {ms} is out of range")
    return card


def _named(card: AccountCard, ident: str) -> AccountCard:
    # The directory's name is the id: a card that was copied from another account must not take its place.
    # A name that nobody may give today was given before: it is escaped, so that it can be shown, and renamed.
    return msgspec.structs.replace(card, id=ident, name=shown_name(card.name))


class Homes:
    """The directory of all accounts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def all(self) -> list[Home]:
        """Every account that has a card or a session, by id.  Raises StateUnwritable."""
        try:
            paths = sorted(self.root.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unwritable(self.root, error) from error
        found = [Home(path) for path in paths if _is_account(path)]
        return [home for home in found if home.exists()]

    def get(self, ident: str) -> Home:
        """The home of this account.  Raises UnknownAccount."""
        home = self._home(ident)
        if home is None or not home.exists():
            known = ", ".join(other.id for other in self.all()) or "none"
            raise UnknownAccount(f"there is no account {ident!r}", hint=f"accounts here: {known}")
        return home

    def _home(self, ident: str) -> Home | None:
        try:
            return Home(self.root / account_id(ident))
        except BadInput:
            return None  # no account can have this id

    def create(self, card: AccountCard) -> Home:
        """Make a home; a directory without card and session is used.  Raises BadInput, Conflict, StateUnwritable."""
        home = Home(self.root / account_id(card.id))
        if home.exists():
            raise Conflict(
                f"there is an account {card.id!r} already", hint="choose another id, or remove it"
            )
        try:
            home.path.mkdir(mode=0o700, exist_ok=True)
            home.path.chmod(0o700)
            sync_directory(self.root)
            home.write_card(card)
        except OSError as error:
            _remove_empty(home.path)
            raise unwritable(home.path, error) from error
        except StateUnwritable:
            _remove_empty(home.path)
            raise
        return home

    @contextmanager
    def incoming(self, ident: str) -> Iterator[Home]:
        """A home that is no account yet, empty, and gone at the end unless `settle` was called.

        For one at a time: it also takes away what a crash left.  Raises BadInput, StateUnwritable.
        """
        root = self.root / _INCOMING
        home = Home(root / account_id(ident))
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

    def settle(self, incoming: Home) -> Home:
        """Make an incoming home an account: whole, or not at all.  Raises Conflict, StateUnwritable."""
        home = Home(self.root / incoming.id)
        if home.exists():
            raise Conflict(f"there is an account {home.id!r} already")
        try:
            sync_directory(incoming.path)
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
            home.path.rename(target)
            sync_directory(removed)
            sync_directory(self.root)
        except OSError as error:
            raise unwritable(home.path, error) from error
        return target

    def removed(self) -> list[Removed]:
        """The accounts that were put away, by id and time."""
        directory = self.root / _REMOVED
        found = []
        for path in sorted(directory.iterdir()) if directory.exists() else []:
            ident, dot, stamp = path.name.partition(".")
            if dot and path.is_dir():
                found.append(Removed(ident, stamp, path, _card(path / _CARD, ident)))
        return found

    def latest_removed(self, ident: str) -> Removed:
        """The account of this id that was put away last.  Raises NotFound."""
        removed = self.removed()
        found = [account for account in removed if account.id == ident]
        if not found:
            known = ", ".join(sorted({account.id for account in removed})) or "none"
            raise NotFound(f"no account {ident!r} was removed", hint=f"removed accounts: {known}")
        return found[-1]

    def restore(self, ident: str) -> Home:
        """Bring the latest removed account of this id back.  Raises NotFound, Conflict, StateUnwritable."""
        removed = self.latest_removed(ident)
        target = Home(self.root / account_id(ident))
        taken = Conflict(f"there is an account {ident!r} already", hint="remove that one first")
        if target.exists():
            raise taken
        try:
            removed.path.rename(target.path)
            sync_directory(self.root)
            sync_directory(self.root / _REMOVED)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise taken from error
            raise unwritable(target.path, error) from error
        return target


def _remove_empty(directory: Path) -> None:
    """Leave nothing of what could not be made; what else lies there stays."""
    with suppress(OSError):
        directory.rmdir()


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


def lock_account(home: Home) -> int:
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
