"""What lies on the disk for an account: the only place that knows the layout.

    SESSIONS/
      ACCOUNT/            mode 0700
        account.json      who it is, and whether it should run
        session.db        the library's keys: the session
        spool.db          the durable inbox
        worker.lock       held by the account's worker while it lives
      .removed/           accounts that were put away: ACCOUNT.STAMP
Nothing here is ever deleted: what is damaged or removed is renamed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from wad.core.errors import (
    AnotherDaemon,
    Conflict,
    NotFound,
    StateUnwritable,
    UnknownAccount,
    WadError,
)
from wad.core.jid import account_id

_REMOVED: Final = ".removed"


class AccountCard(msgspec.Struct, frozen=True, kw_only=True):
    """Who the account is.  `enabled`: it should run.  jid, lid and push_name as of its last login."""

    id: str
    name: str
    phone: str = ""
    created_ms: int = 0
    enabled: bool = True
    jid: str = ""
    lid: str = ""
    push_name: str = ""


class Removed(msgspec.Struct, frozen=True):
    """An account that was put away."""

    id: str
    stamp: str
    path: Path


class Home:
    """One account's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.session_db = path / "session.db"
        self.spool_db = path / "spool.db"
        self.lock_file = path / "worker.lock"
        self._card_file = path / "account.json"

    def card(self) -> AccountCard:
        """Who it is; a card that is missing or damaged is made anew, since the session is what counts."""
        try:
            card = msgspec.json.decode(self._card_file.read_bytes(), type=AccountCard)
        except (OSError, msgspec.MsgspecError):
            return AccountCard(id=self.id, name=self.id)
        return msgspec.structs.replace(card, id=self.id)

    def write_card(self, card: AccountCard) -> None:
        """Replace the card, whole or not at all.  Raises StateUnwritable."""
        text = msgspec.json.format(msgspec.json.encode(card)) + b"\n"
        temporary = self._card_file.with_suffix(".new")
        try:
            with temporary.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._card_file)
            sync_directory(self.path)
        except OSError as error:
            raise _unwritable(self._card_file, error) from error

    def exists(self) -> bool:
        """Whether anything of an account lies here."""
        return self._card_file.exists() or self.session_db.exists()

    def set_aside(self, file: Path, stamp: str) -> Path:
        """Rename a damaged database, with its log, to NAME.damaged-STAMP.  Raises StateUnwritable."""
        aside = file.with_name(f"{file.name}.damaged-{stamp}")
        try:
            for suffix in ("", "-wal", "-shm"):
                part = file.with_name(file.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            sync_directory(self.path)
        except OSError as error:
            raise _unwritable(file, error) from error
        return aside


class Homes:
    """The directory of all accounts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def all(self) -> list[Home]:
        """Every account that has a card or a session, by id."""
        found = [Home(path) for path in sorted(self.root.iterdir()) if _is_account(path)]
        return [home for home in found if home.exists()]

    def get(self, ident: str) -> Home:
        """The home of this account.  Raises UnknownAccount."""
        home = Home(self.root / account_id(ident))
        if not home.exists():
            known = ", ".join(other.id for other in self.all()) or "none"
            raise UnknownAccount(f"there is no account {ident!r}", hint=f"accounts here: {known}")
        return home

    def create(self, card: AccountCard) -> Home:
        """Make a home.  Raises Conflict, StateUnwritable."""
        home = Home(self.root / account_id(card.id))
        try:
            home.path.mkdir(mode=0o700)
        except FileExistsError:
            if home.exists():
                raise Conflict(f"there is an account {card.id!r} already") from None
        except OSError as error:
            raise _unwritable(home.path, error) from error
        home.write_card(card)
        sync_directory(self.root)
        return home

    def remove(self, ident: str, stamp: str) -> Path:
        """Put an account away by renaming; where it lies now.  Raises UnknownAccount, StateUnwritable."""
        home, removed = self.get(ident), self.root / _REMOVED
        target = removed / f"{ident}.{stamp}"
        try:
            removed.mkdir(mode=0o700, exist_ok=True)
            home.path.rename(target)
            sync_directory(self.root)
        except OSError as error:
            raise _unwritable(home.path, error) from error
        return target

    def removed(self) -> list[Removed]:
        """The accounts that were put away, by id and time."""
        directory = self.root / _REMOVED
        paths = sorted(directory.iterdir()) if directory.exists() else []
        split = [(path, path.name.rpartition(".")) for path in paths]
        return [Removed(name[0], name[2], path) for path, name in split if name[1]]

    def restore(self, ident: str) -> Home:
        """Bring the latest removed account of this id back.  Raises NotFound, Conflict, StateUnwritable."""
        found = [removed for removed in self.removed() if removed.id == ident]
        if not found:
            known = ", ".join(sorted({removed.id for removed in self.removed()})) or "none"
            raise NotFound(f"no account {ident!r} was removed", hint=f"removed accounts: {known}")
        target = Home(self.root / account_id(ident))
        if target.exists():
            raise Conflict(f"there is an account {ident!r} already", hint="remove that one first")
        try:
            found[-1].path.rename(target.path)
            sync_directory(self.root)
        except OSError as error:
            raise _unwritable(target.path, error) from error
        return target


def _is_account(path: Path) -> bool:
    try:
        return path.is_dir() and bool(account_id(path.name))
    except WadError:
        return False


# --- locks ------------------------------------------------------------------------------------


class StateLock:
    """One daemon a state directory.  The kernel lets go of the lock when the process dies, however it dies."""

    def __init__(self, directory: Path, boot_id: str) -> None:
        self._file = directory / "wad.lock"
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
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(file, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 100).decode(errors="replace").split()
        os.close(fd)
        pid = holder[0] if holder else "unknown"
        raise AnotherDaemon(
            f"another {who} (pid {pid}) has {what}",
            hint=f"ps -fp {pid} shows it; stop it first, or use another state directory",
        ) from None
    try:
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()} {note}\n".encode())
    except OSError as error:
        os.close(fd)
        raise _unwritable(file, error) from error
    return fd


# --- the disk -------------------------------------------------------------------------------------


def check_writable(directory: Path) -> None:
    """Write, sync and delete a small file: permission bits alone tell root nothing.  Raises StateUnwritable."""
    probe = directory / f".probe-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(directory, error) from error
    finally:
        probe.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make renames and new names in it survive a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unwritable(path: Path, error: OSError) -> StateUnwritable:
    return StateUnwritable(
        f"cannot write {path}: {error.strerror}",
        hint=f"look at its owner, its mode and the space left: ls -ld {path}; df -h {path.parent}",
    )
