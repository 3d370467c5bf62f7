"""From the layout to a .deb: a Debian source tree in a directory of its own, and dpkg-buildpackage."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from click.shell_completion import get_completion_class

from wad.__main__ import cli
from wad.state.spool import Spool
from wad.store.sqlite.store import SqliteStore
from wadctl.__main__ import root as wadctl
from wadpack import gobuild, licences, manual, sbom
from wadpack.bundle import BUNDLED
from wadpack.lock import read_lock
from wadpack.payload import lay_out, write_files
from wadpack.targets import ARCHITECTURES, PREFIX, PYTHONS, Architecture
from wadpack.wheels import fetch

TOP: Final = Path(__file__).parent.parent.parent
_DEBIAN: Final = TOP / "packaging" / "debian"
_COMMAND: Final = """\
#!/usr/lib/wad/bin/python -I
from {module}.__main__ import main

main()
"""
_COMPLETIONS: Final = {
    "bash": "usr/share/bash-completion/completions/{}",
    "zsh": "usr/share/zsh/vendor-completions/_{}",
    "fish": "usr/share/fish/vendor_completions.d/{}.fish",
}


@dataclass(frozen=True, slots=True)
class Build:
    """How to build: `version` other than the changelog's makes another upstream version for upgrades in tests."""

    architecture: Architecture
    out: Path
    cache: Path
    version: str = ""
    compression: str = "-z9"
    quiet: bool = False


def build(job: Build) -> Path:
    """Build the package; its path.  Takes about a minute, most of it to compress."""
    with tempfile.TemporaryDirectory(prefix="wad-deb-") as directory:
        source = Path(directory) / "wad"
        make_source(job, source)
        subprocess.run(
            ["dpkg-buildpackage", "--build=binary", "--no-sign", "-d", f"-a{job.architecture.debian}"],
            cwd=source,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if job.quiet else None,
            env={**os.environ, "WAD_XZ": job.compression, "DEB_BUILD_OPTIONS": "nocheck noautodbgsym"},
        )  # fmt: skip
        made = next(Path(directory).glob("wad_*.deb"))
        job.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "payload" / sbom.PLACE, job.out / f"{made.stem}.cdx.json")
        return Path(shutil.copy(made, job.out / made.name))


def _version() -> str:
    """The changelog's."""
    found = re.search(r"\((.+?)\)", (_DEBIAN / "changelog").read_text())
    assert found is not None
    return found[1]


def make_source(job: Build, source: Path) -> None:
    """The source tree: `debian/` as it is in packaging/, completed, and `payload/`, the files of the package."""
    payload, debian = source / "payload", source / "debian"
    shutil.copytree(_DEBIAN, debian)
    pins = [pin for pin in read_lock(TOP / "requirements.txt") if pin.name in BUNDLED]
    wheels = {python: fetch(pins, python, job.architecture, job.cache) for python in PYTHONS}
    described = lay_out(payload, wheels, TOP)
    library = next((payload / PREFIX).rglob("neonize-linux-*.so"))
    compiled = gobuild.modules(library)
    (debian / "copyright").write_text(licences.copyright_file(described, compiled), "utf-8")
    packed = [wheel for directory in wheels.values() for wheel in directory.glob("*.whl")]
    bill = sbom.sbom(
        job.version or _version(),
        job.architecture.debian,
        packed,
        pins,
        compiled,
        gobuild.go_version(library),
    )
    write_files(payload, {sbom.PLACE: bill})
    _commands(payload)
    _scripts(payload, debian)
    _units(payload)
    _firestore(payload)
    _pages(debian)
    _preinst(debian / "wad.preinst")
    if job.version:
        changelog = debian / "changelog"
        changelog.write_text(re.sub(r"\(.+?\)", f"({job.version})", changelog.read_text(), count=1))


def _commands(payload: Path) -> None:
    for name, module in {"wad": "wad", "wadctl": "wadctl"}.items():
        path = payload / "usr" / "bin" / name
        write_files(payload, {f"usr/bin/{name}": _COMMAND.format(module=module).encode()})
        path.chmod(0o755)
    for name, command in {"wad": cli, "wadctl": wadctl}.items():
        for shell, place in _COMPLETIONS.items():
            kind = get_completion_class(shell)
            assert kind is not None
            text = kind(command, {}, name, f"_{name.upper()}_COMPLETE").source()
            write_files(payload, {place.format(name): text.encode()})


def _scripts(payload: Path, debian: Path) -> None:
    for name, place in {
        "compile": f"{PREFIX}/compile",
        "http-socket": f"{PREFIX}/http-socket",
        "rtupdate": "usr/share/python3/runtime.d/wad.rtupdate",
    }.items():
        write_files(payload, {place: (debian / name).read_bytes()})
        (payload / place).chmod(0o755)
        (debian / name).unlink()
    # Not below etc: dpkg would ask what to do with a changed file at each upgrade.  wad.postinst copies it.
    write_files(payload, {f"{PREFIX}/wad.toml": (debian / "wad.toml").read_bytes()})
    (debian / "wad.toml").unlink()
    (payload / "etc" / "wad").mkdir(parents=True)
    sample = (TOP / "packaging" / "wad.toml").read_bytes()
    write_files(payload, {"usr/share/doc/wad/examples/wad.toml": sample})


def _units(payload: Path) -> None:
    units = TOP / "systemd"
    for unit in sorted([*units.glob("*.service"), *units.glob("*.socket")]):
        write_files(payload, {f"lib/systemd/system/{unit.name}": unit.read_bytes()})
    write_files(payload, {"usr/lib/sysusers.d/wad.conf": (units / "wad.sysusers").read_bytes()})
    write_files(payload, {"usr/lib/tmpfiles.d/wad.conf": (units / "wad.tmpfiles").read_bytes()})


def _firestore(payload: Path) -> None:
    for source in sorted((TOP / "packaging" / "firestore").glob("firestore.*")):
        write_files(payload, {f"usr/share/wad/firestore/{source.name}": source.read_bytes()})


def _pages(debian: Path) -> None:
    for name, text in manual.pages().items():
        (debian / name).write_text(text, "utf-8")
    (debian / "wad.manpages").write_text("".join(f"debian/{name}\n" for name in manual.pages()))


def _preinst(script: Path) -> None:
    store, spool = schemas()
    text = script.read_text().replace("@STORE_SCHEMA@", str(store))
    script.write_text(text.replace("@SPOOL_SCHEMA@", str(spool)))


def schemas() -> tuple[int, int]:
    """The schema numbers of the store and of a spool, read from new ones."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)

        async def make_store() -> None:
            await (await SqliteStore.open(directory / "wad.db")).close()

        asyncio.run(make_store())
        Spool.open(directory / "spool.db").close()
        return _schema(directory / "wad.db"), _schema(directory / "spool.db")


def _schema(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def architecture(name: str) -> Architecture:
    """By Debian's name."""
    return ARCHITECTURES[name]
