"""Ownership of the state: another user cannot run wad there, and files of other users are reported with the fix."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.missing import as_root
from tests.support.daemons import Daemon, a_daemon
from tests.support.http_client import ask
from wad.core.errors import Denied, StateUnwritable
from wad.lib.files import write_file
from wad.state.account_dir import StateLock
from wad.state.ownership import ForeignFile, check_owner, foreign, problems, user_name

STRANGER = 12345  # a uid without a user


def no_service(_: str) -> None:
    """Nothing runs wad as a service."""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A state directory of the user `nobody`."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    as_root("chown", "nobody:", str(state))
    return state


# --- permission to run it --------------------------------------------------------------------------


def test_my_own_directory_is_fine(tmp_path: Path) -> None:
    """As is one that does not exist yet."""
    check_owner((tmp_path, tmp_path / "new"), os.geteuid(), no_service)


def test_root_on_another_user_s_state_is_refused(theirs: Path) -> None:
    """With the command that runs it as its owner, or the one that restarts the service, where that is its user's."""
    with pytest.raises(
        Denied, match="belongs to nobody, who could not read files that root"
    ) as caught:
        check_owner((theirs,), 0, no_service)
    assert caught.value.hint == "instead: sudo -u nobody wad run"
    with pytest.raises(Denied) as caught:
        check_owner((theirs,), 0, lambda user: f"sudo systemctl restart wad.{user}")
    assert caught.value.hint == "instead: sudo systemctl restart wad.nobody"


def test_each_directory_counts(tmp_path: Path, theirs: Path) -> None:
    """The sessions may be in another directory."""
    with pytest.raises(Denied):
        check_owner((tmp_path / "new", theirs), 0, no_service)


@pytest.mark.parametrize("writable", [False, True])
def test_a_member_of_a_group_on_another_user_s_state(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, *, writable: bool
) -> None:
    """Refused in both cases: where they may write they would leave files that the owner cannot read."""
    monkeypatch.setattr(os, "access", lambda *_: writable)
    with pytest.raises(
        Denied if writable else StateUnwritable, match="belongs to nobody"
    ) as caught:
        check_owner((theirs,), STRANGER, no_service)
    assert "sudo -u nobody wad run" in caught.value.hint


@pytest.mark.parametrize("writable", [False, True])
def test_a_directory_that_root_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, writable: bool
) -> None:
    """Where wad can write it is as good as any; where not, the command that gives it away."""
    as_root("chown", "root:", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: writable)
    try:
        if writable:
            check_owner((tmp_path,), STRANGER, no_service)
            return
        with pytest.raises(StateUnwritable, match="belongs to root") as caught:
            check_owner((tmp_path,), STRANGER, no_service)
        assert caught.value.hint == f"sudo chown -R {STRANGER} {tmp_path}"
    finally:
        monkeypatch.undo()
        as_root("chown", str(os.geteuid()), str(tmp_path))


def test_wad_run_creates_no_files(tmp_path: Path, theirs: Path) -> None:
    """Exit 7 (or 8, for an ordinary user), two lines, and an empty directory."""
    daemon = Daemon(tmp_path, engine="simulator")
    done = subprocess.run(
        daemon.command, env=daemon.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == (7 if os.geteuid() == 0 else 8), done.stderr
    assert "belongs to nobody" in done.stderr
    assert "sudo -u nobody wad run" in done.stderr
    as_root("chown", str(os.geteuid()), str(theirs))
    assert list(theirs.iterdir()) == []


# --- files of root in a user's directory ----------------------------------------------------------


def test_a_file_that_root_writes_belongs_to_the_directory_s_owner(theirs: Path) -> None:
    """Whatever command opens the state as root: the service can read what it left."""
    if os.geteuid() != 0:
        as_root("chown", str(os.geteuid()), str(theirs))
    write_file(theirs / "lease.json", b"{}")
    with StateLock(theirs, "boot"):
        owners = {path.stat().st_uid for path in theirs.iterdir()}
    assert owners == {theirs.stat().st_uid}
    assert stat.S_IMODE((theirs / "lease.json").stat().st_mode) == 0o600
    as_root("chown", "-R", str(os.geteuid()), str(theirs))


# --- what is there already ------------------------------------------------------------------------


def a_state(directory: Path) -> Path:
    """A state with some files."""
    for name in ("wad.db", "lease.json", "sessions/shop/session.db", "media/ab/abcd"):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return directory


def test_a_state_that_is_all_ours(tmp_path: Path) -> None:
    """There are no problems."""
    state = a_state(tmp_path)
    found = foreign((state / "sessions", state), os.geteuid())
    assert found == ForeignFile((), ())
    assert list(problems(found, (state / "sessions", state), os.geteuid())) == []


def test_files_of_another_user_are_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that repairs it, for the directory that has all of them."""
    state = a_state(tmp_path)
    as_root("chown", "nobody", str(state / "lease.json"), str(state / "sessions/shop/session.db"))
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "lease.json" and real(path, mode)
    )
    tops, me = (state / "sessions", state), os.geteuid()
    found = foreign(tops, me)
    assert found.paths == (state / "sessions/shop/session.db", state / "lease.json")
    assert state / "lease.json" in found.unusable
    unusable, others = problems(found, tops, me)
    mend = f"sudo chown -R {user_name(me)}: {state}"
    assert (unusable.code, others.code) == ("unusable_files", "foreign_files")
    assert "lease.json" in unusable.text
    assert unusable.text.endswith(mend)
    assert others.text.endswith(mend)
    assert others.kind.sentence([others]) == (
        "files in the state directory that belong to another user: 2"
    )


def test_a_disk_s_own_directory_is_ignored(tmp_path: Path) -> None:
    """lost+found belongs to root on every disk of its own."""
    state = a_state(tmp_path)
    (state / "lost+found").mkdir()
    as_root("chown", "root:", str(state / "lost+found"))
    assert foreign((state,), os.geteuid()) == ForeignFile((), ())
    assert foreign((state,), STRANGER).paths


async def test_status_health_and_ready_name_it(tmp_path: Path) -> None:
    """After a restore by hand as root; over HTTP without names, and ready only once wad can use its files."""
    daemon = Daemon(tmp_path, engine="simulator")
    a_state(daemon.state)
    (daemon.state / "wad.db").unlink()
    daemon.state.chmod(0o700)
    old = daemon.state / "sessions/shop/old.db"
    old.touch()
    as_root("chown", "nobody", str(old))
    await daemon.start()
    try:
        status = await daemon.call("status")
        (found,) = [each for each in status["problems"] if each["code"] == "foreign_files"]
        assert str(old) in found["text"]
        assert f"sudo chown -R {user_name(os.geteuid())}: {daemon.state}" in found["text"]
        health = await ask(daemon.port, "/health")
        assert b"belong to another user: 1" in health.body
        assert b"old.db" not in health.body
    finally:
        await daemon.end()
        as_root("chown", "-R", str(os.geteuid()), str(daemon.state))


async def test_it_is_well_without(tmp_path: Path) -> None:
    """A daemon's own files are its own."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        codes = {each["code"] for each in (await daemon.call("status"))["problems"]}
    assert not codes & {"foreign_files", "unusable_files"}
