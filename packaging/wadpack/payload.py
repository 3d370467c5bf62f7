"""The layout of a package: one virtual environment with modules for several CPythons.

    usr/lib/wad/pyvenv.cfg, bin/python       the environment; the interpreter is the system's
    usr/lib/wad/common/                      what is the same for every version: wad, pure and abi3 modules
    usr/lib/wad/lib/pythonX.Y/site-packages  distributions with modules compiled for X.Y, and wad.pth, which adds common

A compiled module must lie in its package's own directory, so such a distribution is whole in each version's directory;
its files that do not differ are links to the first version's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from wadpack.bundle import keeps
from wadpack.targets import PREFIX, PYTHONS, Python

Files = dict[str, bytes]

_METADATA: Final = re.compile(r"^[^/]+\.dist-info/(METADATA|licenses/.+|LICENSE[^/]*|NOTICE[^/]*)$")
_SITE_DEPTH: Final = "../../.."


def read_wheel(wheel: Path, name: str) -> tuple[Files, Files]:
    """What is kept of a wheel: its modules, and its description and licences."""
    modules: Files = {}
    described: Files = {}
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", info.filename)
            if info.is_dir() or path.partition("/")[0].endswith(".data"):
                continue
            if path.partition("/")[0].endswith(".dist-info"):
                if _METADATA.match(path):
                    described[path] = archive.read(info)
            elif keeps(name, path):
                modules[path] = archive.read(info)
    return modules, described


def distribution(wheel: Path) -> str:
    """The normalized name of the distribution that a wheel holds."""
    return re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()


def lay_out(root: Path, wheels: Mapping[Python, Path], ours: Path) -> dict[str, Files]:
    """Make the tree below `root`; the descriptions of the distributions, by name.

    `wheels`: for each version the directory of its wheels; `ours`: the directory that holds wad and wadctl.
    """
    prefix = root / PREFIX
    common = prefix / "common"
    described: dict[str, Files] = {}
    found: dict[str, dict[Python, Files]] = {}
    for python, directory in wheels.items():
        for wheel in sorted(directory.glob("*.whl")):
            name = distribution(wheel)
            modules, about = read_wheel(wheel, name)
            found.setdefault(name, {})[python] = modules
            described.setdefault(name, about)
    for name, by_python in found.items():
        first, *others = by_python.values()
        if len(by_python) == len(PYTHONS) and all(each == first for each in others):
            write_files(common, first)
        else:
            _write_versions(prefix, by_python)
        write_files(common, {p: d for p, d in described[name].items() if p.endswith("/METADATA")})
    _copy_modules(ours, common)
    _environment(prefix, wheels)
    return described


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write each file below a directory, with the mode of a file that anybody may read."""
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o644)


def _write_versions(prefix: Path, by_python: Mapping[Python, Files]) -> None:
    written: dict[tuple[str, bytes], str] = {}
    for python, files in by_python.items():
        site = prefix / python.site
        for name, data in files.items():
            key = name, hashlib.sha256(data).digest()
            if (first := written.get(key)) is None:
                written[key] = f"{python.site}/{name}"
                write_files(site, {name: data})
            else:
                link = site / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(os.path.relpath(prefix / first, link.parent))


def _copy_modules(ours: Path, common: Path) -> None:
    for package in ("wad", "wadctl"):
        for source in sorted((ours / package).rglob("*.py")):
            target = common / source.relative_to(ours)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o644)


def _environment(prefix: Path, pythons: Iterable[Python]) -> None:
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to("/usr/bin/python3")
    config = "home = /usr/bin\ninclude-system-site-packages = false\n"
    write_files(prefix, {"pyvenv.cfg": config.encode()})
    for python in pythons:
        write_files(prefix / python.site, {"wad.pth": f"{_SITE_DEPTH}/common\n".encode()})
