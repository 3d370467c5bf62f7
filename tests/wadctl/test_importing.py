"""`wadctl account import-baileys`: the directory is only read; its output."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wadctl.importing as importing
from tests.support import baileys_session as sample
from tests.support.wadctl_world import COMMAND, Served, environment, served
from wad.core.baileys import BATCH_LIMIT, FILE_LIMIT
from wad.core.errors import BadInput


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A session's directory."""
    directory = tmp_path / "account_prod_1"
    directory.mkdir()
    for name, data in sample.files().items():
        (directory / name).write_bytes(data)
    return directory


def test_each_file_with_its_bytes_where_they_are_of_use(directory: Path) -> None:
    """Caches are named, not read; directories and links are nothing of Baileys."""
    (directory / "below").mkdir()
    (directory / "link.json").symlink_to(directory / "creds.json")
    (directory / os.fsdecode(b"\xff.json")).write_bytes(b"{}")
    found = dict(importing.read_directory(directory))
    assert found == {
        **sample.files(), "device-list-15550000002.json": b"",
        "sender-key-memory-120363000000000001@g.us.json": b"", "\ufffd.json": b"",
    }  # fmt: skip


def test_the_directory_is_opened_for_reading_only(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every open() is read-only."""
    opened: list[int] = []
    real = os.open

    def spy(path: Any, flags: int, *more: Any) -> int:
        opened.append(flags)
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", spy)
    importing.read_directory(directory)
    assert len(opened) == len(sample.files()) - 2
    assert {flags & (os.O_ACCMODE | os.O_CREAT | os.O_TRUNC) for flags in opened} == {os.O_RDONLY}


def test_files_that_change_during_the_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes meanwhile shows that the other backend runs."""
    real = importing._read

    def read(file: Path) -> bytes:
        if file.name == "creds.json":
            (directory / "pre-key-9.json").write_bytes(b"{}")
        return real(file)

    monkeypatch.setattr(importing, "_read", read)
    with pytest.raises(BadInput, match="the other backend still runs"):
        importing.read_directory(directory)


@pytest.mark.parametrize("what", ["missing", "file", "empty"])
def test_a_path_that_is_not_a_session_directory(what: str, tmp_path: Path) -> None:
    """The error has its path."""
    directory = tmp_path / what
    if what == "file":
        directory.touch()
    if what == "empty":
        directory.mkdir()
    with pytest.raises(BadInput, match=str(directory)):
        importing.read_directory(directory)


def test_a_file_that_is_too_large(directory: Path) -> None:
    """It is not read to its end."""
    with (directory / "session-1.0.json").open("wb") as opened:
        opened.truncate(FILE_LIMIT + 1)
    with pytest.raises(BadInput, match=r"session-1\.0\.json is larger than 3 MiB"):
        importing.read_directory(directory)


def test_files_go_in_batches_that_fit_into_a_frame() -> None:
    """In order, each once."""
    files = [(str(n), bytes(size)) for n, size in enumerate([BATCH_LIMIT, 1, 1, FILE_LIMIT, 1])]
    batches = list(importing._batches(files))
    assert [len(batch) for batch in batches] == [1, 2, 1, 1]
    assert [file for batch in batches for file in batch] == files
    many = [(str(n), b"") for n in range(4001)]
    assert [len(batch) for batch in importing._batches(many)] == [2000, 2000, 1]


# --- the command --------------------------------------------------------------------------------------


class FakeImports:
    """Records uploads, and those that are dropped."""

    def __init__(self, world: Served) -> None:
        self._world = world
        self.files: dict[str, bytes] = {}
        self.forgotten: list[str] = []

    def put(self, upload: str, files: Any) -> str:
        assert upload in ("", "upload-1")
        self.files |= dict(files)
        return "upload-1"

    async def plan(self, upload: str, options: Any) -> Any:
        from wad.engine.baileys.translation import translate
        from wad.flow.accounts.importing import Intent

        carried = translate(self.files, bytes, skip_damaged=options.skip_damaged)
        return Intent(carried, options.ident or options.directory, options.name or "Shop", None)

    async def run(self, upload: str, options: Any) -> Any:
        intent = await self.plan(upload, options)
        return self._world.daemon.accounts.have(intent.ident, intent.name), intent

    def forget(self, upload: str) -> None:
        self.forgotten.append(upload)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Served]:
    """A daemon that answers."""
    with served(tmp_path / "control.sock") as world:
        world.daemon.imports = FakeImports(world)
        yield world


def run(world: Served, directory: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The real command, without a terminal."""
    return subprocess.run(
        [*COMMAND, "account", "import-baileys", str(directory), *more],
        env=environment(world.socket), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_a_dry_run_shows_everything_without_confirmation(world: Served, directory: Path) -> None:
    """What is carried, what not and why, and that nothing was changed."""
    done = run(world, directory, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "15550000001:7@s.whatsapp.net would become account_prod_1 (Shop), a new account",
        "included: 1 pre keys, 1 sessions, 1 sender keys, 1 identities, 1 app state keys,"
        " 1 privacy tokens, 1 lid mappings",
        "not included: 1 device-list (wad requests the device list from WhatsApp again)",
        "not included: 1 sender-key-memory (wad distributes its own sender keys again)",
        "nothing was changed; run it without --dry-run to import",
    ]
    assert world.daemon.imports.forgotten == ["upload-1"]


def test_the_import_itself_needs_a_yes(world: Served, directory: Path) -> None:
    """Two clients with one session throw each other out; nothing is even brought before the yes."""
    done = run(world, directory)
    assert done.returncode == 2
    assert "needs confirmation" in done.stderr
    assert f"hint: wadctl account import-baileys {directory} --yes\n" in done.stderr
    assert world.daemon.imports.files == {}


def test_the_import_as_json(world: Served, directory: Path) -> None:
    """One document, with the account's state."""
    done = run(world, directory, "--yes", "--json", "--id", "shop-1", "--name", "Front")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert (reply["account"], reply["name"], reply["dry_run"]) == ("shop-1", "Front", False)
    assert reply["carried"]["sessions"] == 1
    assert reply["state"]["id"] == "shop-1"


def test_a_refusal_names_the_file(world: Served, directory: Path) -> None:
    """With a hint; also as JSON."""
    (directory / "pre-key-3.json").write_bytes(b"")
    done = run(world, directory, "--dry-run", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["message"] == "pre-key-3.json is empty"
    assert "--skip-damaged" in error["hint"]
    assert run(world, directory, "--dry-run", "--skip-damaged").returncode == 0


def test_a_passive_instance_imports_nothing(world: Served, directory: Path) -> None:
    """The holder of the lease is named: it may be the other backend."""

    def passive(daemon: Any) -> None:
        daemon.leader.valid, daemon.leader.holder = None, "node-1"

    world.do(passive)
    done = run(world, directory, "--yes")
    assert done.returncode == 8
    assert "node-1 is active" in done.stderr
    assert world.daemon.imports.files == {}
