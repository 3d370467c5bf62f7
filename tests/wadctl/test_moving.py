"""`wadctl session`: the file's permissions, and when it is written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.daemons import Daemon, a_daemon
from wadctl.__main__ import root

KEY = b"0123456789abcdef"


def run(*arguments: str) -> Result:
    """wadctl in this process, without a terminal and without a daemon."""
    return CliRunner().invoke(root, ["--socket", "/nowhere", *arguments], prog_name="wadctl")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A key file."""
    file = tmp_path / "wad.key"
    file.write_bytes(KEY)
    return file


async def paired(daemon: Daemon) -> None:
    """An account that was paired, and stopped."""
    await daemon.call("accounts.add", name="shop", phone="+15550000001")
    await daemon.call("accounts.pair", account="shop")
    await daemon.wait_state("shop", "connected")
    await daemon.call("accounts.stop", account="shop")


async def test_it_is_exported_and_imported(tmp_path: Path, key: Path) -> None:
    """Only its owner can read the file; afterwards the account is elsewhere, and the file restores it."""
    file = tmp_path / "shop.session"
    async with a_daemon(tmp_path / "wad", engine="simulator") as daemon:
        await paired(daemon)
        arguments = ["session", "export", "shop", str(file), "--key-file", str(key), "--yes"]
        done = await daemon.wadctl_json(*arguments)
        assert (done["account"]["state"], done["file"]) == ("elsewhere", str(file))
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        assert b"simulated session" not in file.read_bytes()
        done = await daemon.wadctl("session", "import", str(file), "--key-file", str(key))
        assert done.returncode == 0, done
        assert done.stdout.startswith("acc-15550000001: ")
        await daemon.wait_state("shop", "connected")


async def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, key: Path) -> None:
    """The session stays."""
    async with a_daemon(tmp_path / "wad", engine="simulator") as daemon:
        await paired(daemon)
        arguments = ["session", "export", "shop", str(key), "--key-file", str(key), "--yes"]
        done = await daemon.wadctl(*arguments)
        assert (done.returncode, key.read_bytes()) == (2, KEY)
        assert "File exists" in done.stderr
        await daemon.call("accounts.start", account="shop")
        await daemon.wait_state("shop", "connected")


def test_without_a_terminal_it_needs_a_key_file(tmp_path: Path) -> None:
    """A passphrase cannot be typed there; and without confirmation nothing is done."""
    file = str(tmp_path / "x")
    assert "--key-file" in run("session", "export", "shop", file, "--yes").output
    assert "--key-file" in run("session", "import", file).output
    assert "--yes" in run("session", "export", "shop", file).output
    assert not Path(file).exists()


def test_files_that_cannot_be_used(tmp_path: Path, key: Path) -> None:
    """Each is named."""
    short, empty, file = tmp_path / "short", tmp_path / "empty", str(tmp_path / "x")
    short.write_bytes(KEY[1:])
    empty.touch()
    for arguments, said in (
        (("import", file, "--key-file", str(key)), f"cannot read {file}"),
        (("import", str(empty), "--key-file", str(key)), "is empty"),
        (("import", file, "--key-file", str(short)), "fewer than 16 bytes"),
        (("import", file, "--key-file", f"{short}-not"), "cannot read"),
    ):
        result = run("session", *arguments)
        assert result.exit_code == 2
        assert said in result.output


def test_where_it_fails_no_file_is_left(tmp_path: Path, key: Path) -> None:
    """It would look like a session."""
    file = tmp_path / "shop.session"
    result = run("session", "export", "shop", str(file), "--key-file", str(key), "--yes")
    assert result.exit_code != 0
    assert not file.exists()
