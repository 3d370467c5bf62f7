"""Fetching what is locked, for every CPython and for an architecture that need not be this machine's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from wadpack.lock import Pin
from wadpack.targets import Architecture, Python, platforms


def fetch(pins: Iterable[Pin], python: Python, architecture: Architecture, cache: Path) -> Path:
    """A directory with the wheels of these pins for one target; pip has verified every hash."""
    wanted = "".join(f"{pin.line()}\n" for pin in pins)
    into = cache / f"{architecture.debian}-{python.tag}"
    done = into / "locked.txt"
    if done.exists() and done.read_text() == wanted:
        return into
    into.mkdir(parents=True, exist_ok=True)
    for old in into.iterdir():
        old.unlink()
    asked = into / "asked.txt"
    asked.write_text(wanted)
    _pip(
        "download", "--dest", str(into), "--only-binary=:all:", "--no-binary=sdnotify",
        "--implementation", "cp", "--python-version", python.release,
        *(f"--platform={each}" for each in platforms(architecture)), "--requirement", str(asked),
    )  # fmt: skip
    for sdist in into.glob("*.tar.gz"):
        _pip("wheel", "--no-build-isolation", "--wheel-dir", str(into), str(sdist), hashed=False)
        sdist.unlink()
    asked.rename(done)
    return into


def _pip(command: str, *words: str, hashed: bool = True) -> None:
    common = ["-qq", "--no-deps", "--disable-pip-version-check", "--no-cache-dir"]
    more = ["--require-hashes"] if hashed else []
    subprocess.run(
        [sys.executable, "-m", "pip", command, *common, *more, *words],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},
    )
