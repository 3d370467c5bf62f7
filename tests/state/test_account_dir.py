"""The account directories: no account is ever deleted, and a card never costs a session."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wad.core.errors import (
    AnotherDaemon,
    BadInput,
    Conflict,
    StateUnwritable,
    UnknownAccount,
)
from wad.lib.sqlite_file import has_lost_its_database, log_of, pad
from wad.state.account_dir import (
    AccountCard,
    AccountDir,
    AccountDirs,
    StateLock,
    check_writable,
    lock_account,
)
from wad.state.damaged_copies import copies

CARD = AccountCard(
    id="acc-1", name="Shop", phone="+40700000001", created_ms=5, enabled=False,
    jid="40700000001:3@s.whatsapp.net", lid="111@lid", push_name="The shop",
)  # fmt: skip


@pytest.fixture
def account_dirs(tmp_path: Path) -> AccountDirs:
    """No accounts yet."""
    return AccountDirs(tmp_path)


def failing(code: int) -> Callable[..., None]:
    """A system call that fails."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# --- a database that was emptied -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "directory"])
def test_only_a_file_that_is_empty_or_missing_is_padded(tmp_path: Path, kind: str) -> None:
    """A worker that is not confined may put a link there: what it leads to is not the daemon's to change."""
    file, other = tmp_path / "spool.db", tmp_path / "other"
    log_of(file).write_bytes(b"log")
    match kind:
        case "link":
            other.touch()
            file.symlink_to(other)
        case "dangling link":
            file.symlink_to(other)
        case "pipe":
            os.mkfifo(file)
        case "directory":
            file.mkdir()
    assert not has_lost_its_database(file)
    with pytest.raises(OSError, match=re.escape(str(file))):
        pad(file)
    assert not other.exists() or other.stat().st_size == 0


def test_a_file_with_contents_is_not_padded(tmp_path: Path) -> None:
    """It was written after the check: only one page of it would be left."""
    file = tmp_path / "spool.db"
    file.write_bytes(b"x" * 10_000)
    pad(file)
    assert file.stat().st_size == 10_000


def test_an_empty_or_missing_file_with_a_log_is_padded(tmp_path: Path) -> None:
    """So that SQLite reads the log."""
    for file in (tmp_path / "spool.db", tmp_path / "session.db"):
        log_of(file).write_bytes(b"log")
    (tmp_path / "spool.db").touch(0o644)
    for file in (tmp_path / "spool.db", tmp_path / "session.db"):
        assert has_lost_its_database(file)
        pad(file)
        assert not has_lost_its_database(file)
        assert file.stat().st_size == 4096
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


# --- cards ----------------------------------------------------------------------------------------


def test_a_card_is_read_as_it_was_written(account_dirs: AccountDirs) -> None:
    """Every field, in a readable form."""
    account_dir = account_dirs.create(CARD)
    assert account_dir.card() == CARD
    assert json.loads(account_dir.card_file.read_text())["name"] == "Shop"


def test_an_account_directory_is_private(account_dirs: AccountDirs) -> None:
    """Directory 0700, card 0600, whatever the umask."""
    before = os.umask(0)
    try:
        account_dir = account_dirs.create(CARD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(account_dir.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(account_dir.card_file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"id": "acc-1"}', b'{"id":"a","name":"\xff"}', b"[]"]
)
def test_a_damaged_card_is_made_anew(account_dirs: AccountDirs, content: bytes) -> None:
    """The account is still there: the session is what counts."""
    account_dir = account_dirs.create(CARD)
    account_dir.card_file.write_bytes(content)
    card = account_dirs.get("acc-1").card()
    assert (card.id, card.name, card.enabled) == ("acc-1", "acc-1", False)
    assert "could not be read" in card.stopped_why


def test_a_damaged_card_is_kept_beside_the_new_one(account_dirs: AccountDirs) -> None:
    """Writing the card does not delete what an operator may still read."""
    account_dir = account_dirs.create(CARD)
    for number in range(2):
        account_dir.card_file.write_text(f"half a ca{number}")
        account_dir.write_card(CARD)
    assert account_dir.card() == CARD
    kept = sorted(path.read_text() for path in account_dir.path.glob("account.json.damaged*"))
    assert kept == ["half a ca0", "half a ca1"]


@pytest.mark.parametrize("name", ["account.json", "account.json.new"])
def test_a_card_is_written_whatever_is_in_the_place_of_its_copy(
    account_dirs: AccountDirs, name: str
) -> None:
    """The copy is in the directory of a worker, which could refuse every order to its account."""
    account_dir = account_dirs.create(CARD)
    (account_dir.path / name).unlink(missing_ok=True)
    (account_dir.path / name).mkdir()
    (account_dir.path / name / "file").touch()
    account_dir.write_card(AccountCard(id="acc-1", name="Renamed", enabled=False))
    assert account_dir.card().name == "Renamed"
    account_dirs.remove("acc-1", "20260101T000000Z")
    (removed,) = account_dirs.removed()
    assert removed.card.name == "Renamed"


def test_no_card_is_written_for_an_account_whose_directory_is_gone(
    account_dirs: AccountDirs,
) -> None:
    """It would count for the next directory that is brought here under this name."""
    account_dir = account_dirs.create(CARD)
    account_dirs.remove("acc-1", "20260101T000000Z")
    with pytest.raises(StateUnwritable):
        account_dir.write_card(CARD)
    assert not account_dir.card_file.exists()


@pytest.mark.parametrize("kind", ["half", "directory", "pipe", "circle"])
def test_a_damaged_card_is_set_aside_when_the_account_is_opened(
    account_dirs: AccountDirs, kind: str
) -> None:
    """The operator sees the copy, even if no other write of the card follows."""
    account_dir = account_dirs.create(CARD)
    file = account_dir.card_file
    file.unlink()
    match kind:
        case "half":
            file.write_text('{"id": "acc-1')
        case "directory":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "circle":
            file.symlink_to(file.name)
    assert account_dir.mended_card().damage
    assert account_dir.mended_card() == (account_dir.card(), "", "")
    assert [copy.path.name for copy in copies(account_dir.path)] == ["account.json.damaged"]
    assert file.is_file()


def test_a_name_that_deceives_is_escaped(account_dirs: AccountDirs) -> None:
    """An old card may contain any name: it is shown escaped, and the file stays until the account is renamed."""
    account_dir = account_dirs.create(AccountCard(id="shop", name="\x1b[31mShop\n\u202eevil"))
    before = account_dir.card_file.read_bytes()
    assert account_dir.card().name == "\\x1b[31mShop\\n\\u202eevil"
    assert account_dir.card_file.read_bytes() == before


def test_a_card_of_another_account_does_not_take_its_place(account_dirs: AccountDirs) -> None:
    """The directory's name is the id."""
    account_dir = account_dirs.create(CARD)
    account_dir.card_file.write_text('{"id": "acc-9", "name": "Copied"}')
    assert account_dir.card() == AccountCard(id="acc-1", name="Copied")
    account_dir.write_card(AccountCard(id="acc-9", name="Written"))
    assert json.loads(account_dir.card_file.read_text())["id"] == "acc-1"


def test_a_card_that_cannot_be_written_leaves_the_old_one(
    account_dirs: AccountDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or not at all."""
    account_dir = account_dirs.create(CARD)
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(StateUnwritable, match="No space left"):
        account_dir.write_card(AccountCard(id="acc-1", name="New"))
    assert account_dir.card() == CARD


# --- accounts -------------------------------------------------------------------------------------


def test_accounts_are_listed_by_id(account_dirs: AccountDirs) -> None:
    """Directories with a card; nothing else."""
    for ident in ("b", "a", "c"):
        account_dirs.create(AccountCard(id=ident, name=ident))
    (account_dirs.root / "empty").mkdir()
    (account_dirs.root / "Not An Id").mkdir()
    (account_dirs.root / "file").write_text("")
    account_dirs.remove("c", "20260101T000000Z")
    assert [account_dir.id for account_dir in account_dirs.all()] == ["a", "b"]


def test_a_session_without_a_card_is_an_account(account_dirs: AccountDirs) -> None:
    """A lost card does not lose a session."""
    (account_dirs.root / "acc-7").mkdir()
    (account_dirs.root / "acc-7" / "session.db").write_bytes(b"keys")
    assert [account_dir.id for account_dir in account_dirs.all()] == ["acc-7"]
    card = account_dirs.get("acc-7").card()
    assert (card.name, card.enabled) == ("acc-7", False)
    assert "missing" in card.stopped_why


def test_no_directory_means_no_accounts(tmp_path: Path) -> None:
    """Before the first start."""
    account_dirs = AccountDirs(tmp_path / "nowhere")
    assert account_dirs.all() == []
    assert account_dirs.removed() == []


@pytest.mark.parametrize("ident", ["nobody", "../etc", "", "A B", ".removed"])
def test_an_unknown_account_is_an_error_that_names_the_known(
    account_dirs: AccountDirs, ident: str
) -> None:
    """Also for an invalid id; nothing outside the directory is read."""
    account_dirs.create(CARD)
    with pytest.raises(UnknownAccount) as unknown:
        account_dirs.get(ident)
    assert "acc-1" in unknown.value.hint


def test_an_id_is_taken_once(account_dirs: AccountDirs) -> None:
    """Creating never touches an account that is there."""
    account_dirs.create(CARD)
    with pytest.raises(Conflict):
        account_dirs.create(AccountCard(id="acc-1", name="Other"))
    assert account_dirs.get("acc-1").card() == CARD


def test_a_session_without_a_card_is_not_overwritten(account_dirs: AccountDirs) -> None:
    """It holds its id as well."""
    (account_dirs.root / "acc-1").mkdir()
    (account_dirs.root / "acc-1" / "session.db").write_bytes(b"keys")
    with pytest.raises(Conflict):
        account_dirs.create(CARD)


def test_a_directory_that_a_crash_left_is_used(account_dirs: AccountDirs) -> None:
    """Killed between making the directory and writing the card: the same command works again."""
    (account_dirs.root / "acc-1").mkdir(mode=0o755)
    account_dir = account_dirs.create(CARD)
    assert account_dir.card() == CARD
    assert stat.S_IMODE(account_dir.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("ident", ["../x", "A", "a__b", ""])
def test_an_id_must_be_one(account_dirs: AccountDirs, ident: str) -> None:
    """It names a directory."""
    with pytest.raises(BadInput):
        account_dirs.create(AccountCard(id=ident, name="x"))


# --- putting away -----------------------------------------------------------------------------------


def test_a_removed_account_can_be_brought_back(account_dirs: AccountDirs) -> None:
    """Removal is a rename, everything in it included."""
    account_dir = account_dirs.create(CARD)
    account_dir.session_db.write_bytes(b"keys")
    path = account_dirs.remove("acc-1", "20260101T000000Z")
    assert path == account_dirs.root / ".removed" / "acc-1.20260101T000000Z"
    assert account_dirs.all() == []
    (removed,) = account_dirs.removed()
    assert (removed.id, removed.stamp, removed.path) == ("acc-1", "20260101T000000Z", path)
    assert removed.card == CARD
    again = account_dirs.restore(removed)
    assert (again.card(), again.session_db.read_bytes()) == (CARD, b"keys")
    assert account_dirs.removed() == []


def test_the_latest_removal_is_restored(account_dirs: AccountDirs) -> None:
    """Of several under one id, also within one second."""
    for number in range(3):
        account_dirs.create(AccountCard(id="acc-1", name=f"n{number}"))
        account_dirs.remove("acc-1", "20260101T000000Z")
    account_dirs.create(AccountCard(id="acc-10", name="other"))
    account_dirs.remove("acc-10", "20990101T000000Z")
    assert [removed.card.name for removed in account_dirs.removed()] == ["n0", "n1", "n2", "other"]
    assert account_dirs.restore(account_dirs.removed()[2]).card().name == "n2"


@pytest.mark.parametrize("left", ["account.json", "session.db", "spool.db"])
def test_restoring_never_replaces_an_account(account_dirs: AccountDirs, left: str) -> None:
    """A present account with the id stays."""
    account_dirs.create(CARD)
    account_dirs.remove("acc-1", "20260101T000000Z")
    (account_dirs.root / "acc-1").mkdir()
    (account_dirs.root / "acc-1" / left).write_bytes(b"something")
    with pytest.raises(Conflict):
        account_dirs.restore(account_dirs.removed()[0])
    assert (account_dirs.root / "acc-1" / left).read_bytes() == b"something"
    assert len(account_dirs.removed()) == 1


def test_removing_needs_an_account(account_dirs: AccountDirs) -> None:
    """A directory that does not exist cannot be removed."""
    with pytest.raises(UnknownAccount):
        account_dirs.remove("acc-1", "20260101T000000Z")


def test_a_damaged_database_is_set_aside_with_its_log(account_dirs: AccountDirs) -> None:
    """Renamed, never deleted; the three files belong together."""
    account_dir = account_dirs.create(CARD)
    for suffix in ("", "-wal", "-shm"):
        account_dir.spool_db.with_name(f"spool.db{suffix}").write_text(f"contents{suffix}")
    aside = account_dir.set_aside(account_dir.spool_db, "20260101T000000Z")
    assert aside == account_dir.path / "spool.db.damaged-20260101T000000Z"
    found = {path.name: path.read_text() for path in account_dir.path.glob("spool.db*")}
    assert found == {
        f"{aside.name}{suffix}": f"contents{suffix}" for suffix in ("", "-wal", "-shm")
    }


def test_setting_aside_twice_keeps_both(account_dirs: AccountDirs) -> None:
    """Also within one second, and also without a log."""
    account_dir = account_dirs.create(CARD)
    names = set()
    for number in range(2):
        account_dir.session_db.write_text(f"contents {number}")
        names.add(account_dir.set_aside(account_dir.session_db, "20260101T000000Z"))
    assert sorted(path.read_text() for path in names) == ["contents 0", "contents 1"]
    assert not account_dir.session_db.exists()


def test_setting_aside_half_way_parts_nothing(
    account_dirs: AccountDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the old names go: the database still has its log."""
    account_dir = account_dirs.create(CARD)
    for suffix in ("", "-wal"):
        account_dir.spool_db.with_name(f"spool.db{suffix}").write_text(f"contents{suffix}")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", failing(errno.EIO))
        with pytest.raises(StateUnwritable):
            account_dir.set_aside(account_dir.spool_db, "s")
    assert account_dir.spool_db.with_name("spool.db-wal").read_text() == "contents-wal"
    aside = account_dir.set_aside(account_dir.spool_db, "s")
    assert aside.with_name(aside.name + "-wal").read_text() == "contents-wal"
    assert not account_dir.spool_db.exists()


# --- locks ----------------------------------------------------------------------------------------


def test_one_daemon_has_the_directory(tmp_path: Path) -> None:
    """The second gets an error with the holder's pid; when the first ends, the second may start."""
    with StateLock(tmp_path, "boot-1"):
        assert (tmp_path / "wad.lock").read_text() == f"{os.getpid()} boot-1\n"
        with pytest.raises(AnotherDaemon, match=f"pid {os.getpid()}"), StateLock(tmp_path, "b2"):
            pass
    with StateLock(tmp_path, "boot-3"):
        assert "boot-3" in (tmp_path / "wad.lock").read_text()


def test_one_worker_has_an_account(account_dirs: AccountDirs) -> None:
    """Until its descriptor is closed."""
    account_dir = account_dirs.create(CARD)
    fd = lock_account(account_dir)
    with pytest.raises(
        AnotherDaemon, match=rf"another worker \(pid {os.getpid()}\) has locked account acc-1"
    ):
        lock_account(account_dir)
    os.close(fd)
    os.close(lock_account(account_dir))


_HOLDER = """
import sys
from pathlib import Path
from wad.state.account_dir import StateLock
with StateLock(Path(sys.argv[1]), "boot"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    """The kernel does it, so that a restarted daemon starts at once."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(AnotherDaemon, match=f"pid {child.pid}"), StateLock(tmp_path, "b"):
            pass
        child.send_signal(signal.SIGKILL)
    with StateLock(tmp_path, "b"):
        pass


def test_a_lock_is_not_inherited(tmp_path: Path) -> None:
    """A worker that outlives the daemon does not hold the daemon's lock."""
    with StateLock(tmp_path, "b") as lock:
        assert not os.get_inheritable(lock._fd)


def test_a_lock_that_cannot_be_made_is_unwritable(tmp_path: Path) -> None:
    """The directory is missing."""
    with pytest.raises(StateUnwritable), StateLock(tmp_path / "nowhere", "b"):
        pass


# --- the disk -------------------------------------------------------------------------------------


def test_a_writable_directory_stays_as_it_was(tmp_path: Path) -> None:
    """The probe leaves nothing."""
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_unwritable(tmp_path: Path) -> None:
    """The hint names what to check."""
    with pytest.raises(StateUnwritable, match="nowhere") as refused:
        check_writable(tmp_path / "nowhere")
    assert re.search(r"owner.*mode.*space.*ls -ld .*df -h", refused.value.hint)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_refuses_is_unwritable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The probe is really written and synced, and is deleted even after an error."""
    monkeypatch.setattr(os, "fsync", failing(code))
    with pytest.raises(StateUnwritable, match=re.escape(os.strerror(code))):
        check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_account_directory_on_a_full_disk_is_unwritable(
    account_dirs: AccountDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Creation raises an error, and can be repeated."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing(errno.ENOSPC))
        with pytest.raises(StateUnwritable):
            account_dirs.create(CARD)
    assert account_dirs.create(CARD).card() == CARD


def test_an_account_directory_has_its_paths(tmp_path: Path) -> None:
    """The layout, in one place."""
    account_dir = AccountDir(tmp_path / "acc-1")
    assert account_dir.id == "acc-1"
    names = [
        path.name for path in (account_dir.session_db, account_dir.spool_db, account_dir.lock_file)
    ]
    assert names == ["session.db", "spool.db", "worker.lock"]


# --- an account that is on its way in -------------------------------------------------------------


def test_an_incoming_directory_is_not_an_account_until_it_settles(
    account_dirs: AccountDirs,
) -> None:
    """Then it is one, whole, and nothing of it is left where it was."""
    with account_dirs.incoming("acc-1") as incoming:
        incoming.write_card(CARD)
        incoming.session_db.write_bytes(b"session")
        assert account_dirs.all() == []
        account_dir = account_dirs.settle(incoming)
    assert [found.path for found in account_dirs.all()] == [account_dir.path]
    assert account_dir.session_db.read_bytes() == b"session"
    assert [path.name for path in account_dirs.root.iterdir()] == ["acc-1"]


def test_the_rest_of_a_crashed_import_is_removed_by_the_next(
    account_dirs: AccountDirs,
) -> None:
    """It is a copy: the one thing here that is deleted."""
    left = account_dirs.root / ".incoming" / "acc-1" / "session.db"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a session")
    with account_dirs.incoming("acc-1") as incoming:
        assert list(incoming.path.iterdir()) == []
        assert stat.S_IMODE(incoming.path.stat().st_mode) == 0o700


def test_an_incoming_account_replaces_no_other(account_dirs: AccountDirs) -> None:
    """Neither an account's nor that of other files."""
    account_dirs.create(CARD)
    (account_dirs.root / "acc-2").mkdir()
    (account_dirs.root / "acc-2" / "notes").touch()
    for ident in ("acc-1", "acc-2"):
        with account_dirs.incoming(ident) as incoming:
            incoming.session_db.touch()
            with pytest.raises(Conflict):
                account_dirs.settle(incoming)


def test_a_file_without_a_session_makes_way_for_one(account_dirs: AccountDirs) -> None:
    """It is renamed, with its log, and not overwritten."""
    account_dir = account_dirs.create(CARD)
    account_dir.session_db.write_bytes(b"tables")
    account_dir.session_db.with_name("session.db-wal").write_bytes(b"log")
    (account_dirs.root / "new.db").write_bytes(b"session")
    account_dir.take_session(account_dirs.root / "new.db", "20260101T000000Z")
    assert account_dir.session_db.read_bytes() == b"session"
    assert not account_dir.session_db.with_name("session.db-wal").exists()
    (aside,) = account_dir.path.glob("session.db.unpaired-*Z")
    assert aside.read_bytes() == b"tables"


def test_a_directory_that_cannot_be_written_is_reported(
    account_dirs: AccountDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each step of an account's way in."""
    account_dir = account_dirs.create(CARD)
    with account_dirs.incoming("acc-2") as incoming, monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing(errno.EROFS))
        with pytest.raises(StateUnwritable):
            account_dirs.settle(incoming)
        with pytest.raises(StateUnwritable):
            account_dir.take_session(incoming.session_db, "20260101T000000Z")
    monkeypatch.setattr(Path, "mkdir", failing(errno.ENOSPC))
    with pytest.raises(StateUnwritable), account_dirs.incoming("acc-3"):
        pass
