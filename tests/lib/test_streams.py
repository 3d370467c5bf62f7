"""Streams that are closed, full or disconnected, and arguments that are not text: one line and an exit code."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.daemons import Daemon, a_daemon

PYTHON = sys.executable


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """With an account that was never paired."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        await daemon.call("accounts.add", name="shop")
        yield daemon


async def shell(daemon: Daemon, line: str | bytes) -> subprocess.CompletedProcess[bytes]:
    """What bash makes of a line; `$W` is wadctl, `$D` is wad."""
    environ = daemon.environ | {"W": f"{PYTHON} -m wadctl", "D": f"{PYTHON} -m wad"}
    return await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], env=environ, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        "$W status",
        "$W status --json",
        "$W --help",
        "$W completion bash",
        "$D config show",
        "$D --version",
    ],
)
async def test_a_full_disk(daemon: Daemon, command: str) -> None:
    """A redirected command must not leave half an answer without an error."""
    done = await shell(daemon, f"{command} >/dev/full")
    assert done.returncode == 74
    assert done.stderr.endswith(b": cannot write: No space left on device\n")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$W status >&-", 0),
        ("$W status >&- 2>&- <&-", 0),
        ("$W account show nobody 2>&-", 4),
        ("$W nonesuch 2>&-", 2),
        ("$W account remove shop <&-", 2),
        ("$W account list --json <&- 2>&-", 0),
        ("$D config check >&- 2>&- <&-", 0),
        ("$W completion bash | true; exit ${PIPESTATUS[0]}", 141),
    ],
)
async def test_closed_streams(daemon: Daemon, line: str, code: int) -> None:
    """The command does what it is for, and its sockets and files get no number of a stream."""
    done = await shell(daemon, line)
    assert done.returncode == code, done
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        b"$W account show $'caf\\xe9'",
        b"$W send shop +15550000002 $'caf\\xe9' --json",
        b"$W account add $'caf\\xe9'",
        b"$W account rename shop $'\\xf0\\x9f'",
        b"$W threads --account $'caf\\xe9'",
        b"$W audit messages --account $'caf\\xe9'",
    ],
)
async def test_an_argument_that_is_not_a_text(daemon: Daemon, line: bytes) -> None:
    """Usage, as any other that cannot be used, in a line that can be shown anywhere."""
    done = await shell(daemon, line)
    assert b"Traceback" not in done.stderr
    if b"audit" in line:
        assert done.returncode != 0
        return
    assert done.returncode == 2, done
    if b"--json" in line:
        assert json.loads(done.stdout)["error"]["code"] == "bad_input"
    assert b"is not UTF-8" in done.stderr + done.stdout
    assert done.stderr.isascii()
