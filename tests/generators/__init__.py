"""The generators of API clients that users run on `/openapi.json`: openapi-typescript and openapi-python-client.

Their packages come from the npm registry and PyPI, as package-lock.json and requirements.txt pin them with hashes, once
per machine, into the user's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_INSTALLING = 300.0
_RUNNING = 120.0


@cache
def typescript() -> Path:
    """The directory of the npm packages, with `node_modules`; installed if they are missing."""

    def install(directory: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_HERE / name, directory)
        _run(_INSTALLING, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=directory)

    return _installed("typescript", ("package.json", "package-lock.json"), install)


@cache
def python() -> Path:
    """The interpreter that has the generator of Python clients, and what such a client needs; installed if missing."""

    def install(directory: Path) -> None:
        _run(_INSTALLING, sys.executable, "-m", "venv", "--clear", str(directory))
        _run(
            _INSTALLING,
            str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--require-hashes", "-r", str(_HERE / "requirements.txt"),
        )  # fmt: skip

    version = f"python{sys.version_info.major}{sys.version_info.minor}"
    return _installed(version, ("requirements.txt",), install) / "bin" / "python"


def typescript_client(description: Path, file: Path) -> str:
    """Generate types from the description and compile them; what the tools print."""
    tools = typescript() / "node_modules" / ".bin"
    printed = _run(_RUNNING, str(tools / "openapi-typescript"), str(description), "-o", str(file))
    return printed + _run(_RUNNING, str(tools / "tsc"), "--noEmit", "--strict", str(file))


def python_client(description: Path, directory: Path) -> str:
    """Generate a client into a new directory; what the tool prints, which names all that it had to leave out."""
    interpreter = python()
    path = os.pathsep.join((str(interpreter.parent), os.environ["PATH"]))  # it formats with ruff
    return _run(
        _RUNNING, str(interpreter.parent / "openapi-python-client"), "generate",
        "--path", str(description), "--output-path", str(directory), path=path,
    )  # fmt: skip


def _installed(name: str, pinned: tuple[str, ...], install: Callable[[Path], None]) -> Path:
    """The directory that `install` fills, once for each version of the pinned lists."""
    digest = hashlib.sha256(b"".join((_HERE / file).read_bytes() for file in pinned))
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wad-tests"
    caches.mkdir(parents=True, exist_ok=True)
    directory = caches / f"{name}-{digest.hexdigest()[:12]}"
    with (caches / f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes may need it at once
        if not (directory / ".complete").exists():
            directory.mkdir(exist_ok=True)
            install(directory)
            (directory / ".complete").touch()
    return directory


def _run(timeout: float, *command: str, cwd: Path | None = None, path: str = "") -> str:
    """Run a command; its output.  Raises AssertionError with the output if it fails."""
    done = subprocess.run(
        command, cwd=cwd, timeout=timeout, text=True, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": path} if path else None,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout
