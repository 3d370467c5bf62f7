"""Trials of the package as a file: its size, lintian's result, whether it is reproducible, and the one for arm64."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wadpack.debianize import TOP, Build, architecture, build
from wadpack.targets import ARCHITECTURES

from tests.lab.figures import Figure

NOT_AT_ALL: Final = "-Znone"
"""Compression of a package that is only examined."""
_ELF: Final = b"\x7fELF"
_MACHINE: Final = slice(18, 20)  # e_machine in an ELF header


async def made(name: str, out: Path, compression: str) -> Path:
    """The package for an architecture, built from this checkout."""
    cache = TOP / "build" / "wheels"
    return await asyncio.to_thread(
        build, Build(architecture(name), out, cache, compression=compression, quiet=True)
    )


def of_commit(commit: str, out: Path) -> Path:
    """The package of an earlier commit, built by its own code."""
    tree, made = out / commit, out / f"{commit}-deb"
    # Another commit locks other wheels, and this checkout's package may be built at the same time.
    cache = TOP / "build" / "wheels-of-before"
    tree.mkdir()
    archive = subprocess.run(
        ["git", "archive", commit], cwd=TOP, check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "--extract"], cwd=tree, input=archive.stdout, check=True)
    options = ["--arch=amd64", f"--out={made}", f"--cache={cache}", "--fast"]
    subprocess.run(
        [sys.executable, "-m", "wadpack", "deb", *options],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": f"{tree / 'packaging'}:{tree}"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return next(made.glob("*.deb"))


async def look(deb: Path) -> list[Figure]:
    """The figures of the file alone.  The size of one that was compressed less is an upper bound."""
    said = await asyncio.to_thread(
        subprocess.run,
        ["lintian", "--allow-root", "--tag-display-limit", "0", str(deb)],
        capture_output=True,
        text=True,
        check=False,
    )
    errors = re.findall(r"^E: .+$", said.stdout, re.M)
    assert not said.stderr, said.stderr
    return [
        Figure("deb_size", deb.stat().st_size / 1e6, "MB", 45),
        Figure("lintian_errors", len(errors), "errors", 0),
    ]


async def made_again(deb: Path, work: Path) -> Figure:
    """How many of the package's two parts differ when it is built a second time.

    The tar archives are compared; xz compresses the same bytes to the same result.
    """
    again = await made("amd64", work / "again", NOT_AT_ALL)
    parts = ("--ctrl-tarfile", "--fsys-tarfile")
    differ = [part for part in parts if _digest(deb, part) != _digest(again, part)]
    again.unlink()
    return Figure("rebuild_differences", len(differ), "parts", 0)


def _digest(deb: Path, part: str) -> str:
    with subprocess.Popen(["dpkg-deb", part, str(deb)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        digest = hashlib.sha256()
        while block := process.stdout.read(1 << 20):
            digest.update(block)
    assert process.returncode == 0
    return digest.hexdigest()


async def for_arm64(work: Path) -> None:
    """The package for arm64 holds machine code for arm64 and for nothing else, for each Python."""
    deb = await made("arm64", work / "arm64", NOT_AT_ALL)
    tree = work / "arm64" / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tree)], check=True)
    assert "\nArchitecture: arm64\n" in (tree / "DEBIAN" / "control").read_text()
    machines = dict(_machines(tree))
    wanted = ARCHITECTURES["arm64"].machine
    assert len(machines) > 20, machines
    assert {*machines.values()} == {wanted}, machines
    subprocess.run(["rm", "-r", str(work / "arm64")], check=True)


def _machines(tree: Path) -> Iterator[tuple[str, int]]:
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            head = path.open("rb").read(20)
            if head.startswith(_ELF):
                yield str(path.relative_to(tree)), int.from_bytes(head[_MACHINE], "little")
