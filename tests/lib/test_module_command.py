"""Child processes run this installation's modules, whatever is in the current directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemons import Daemon
from tests.support.http_client import ask
from wad.lib.module_command import module_command

TOP = Path(__file__).parent.parent.parent
HOSTILE = "raise SystemExit('imported from the current directory')\n"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with modules of the names that wad imports."""
    directory = tmp_path / "hostile"
    for name in ("wad", "neonize", "uvicorn"):
        (directory / name).mkdir(parents=True)
        (directory / name / "__init__.py").write_text(HOSTILE)
    for name in ("msgspec", "sqlite3", "socket"):
        (directory / f"{name}.py").write_text(HOSTILE)
    return directory


@pytest.mark.parametrize("module", ["wad.http", "wad.worker.main"])
def test_nothing_is_imported_from_the_current_directory(hostile: Path, module: str) -> None:
    """The module is found and prints its help."""
    command = module_command(module, "--help")
    done = subprocess.run(command, cwd=hostile, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_no_other_command_line_runs_this_interpreter() -> None:
    """One that is made elsewhere would import from the current directory."""
    files = [*(TOP / "wad").rglob("*.py"), *(TOP / "wadctl").rglob("*.py")]
    found = {str(file.relative_to(TOP)) for file in files if '"-m"' in file.read_text()}
    assert found == {"wad/lib/module_command.py", "wad/audit/doctor/host.py"}


@pytest.mark.parametrize("empty", [False, True])
async def test_a_daemon_that_is_started_there(hostile: Path, tmp_path: Path, empty: bool) -> None:
    """It and its HTTP process run; a folder `wad` without an __init__.py is a package for Python, too."""
    if empty:
        (hostile / "wad" / "__init__.py").unlink()
    daemon = Daemon(tmp_path / "daemon", engine="simulator")
    daemon.command = [str(Path(sys.executable).with_name("wad")), "run"]
    daemon.current_directory = hostile
    await daemon.start()
    try:
        assert (await ask(daemon.port, "/healthz")).status == 200
    finally:
        assert await daemon.end() == 0
