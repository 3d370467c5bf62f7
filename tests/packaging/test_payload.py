"""The layout for several Pythons, from wheels made here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from wadpack.payload import distribution, lay_out, read_wheel
from wadpack.targets import ARCHITECTURES, PREFIX, PYTHONS, platforms

OURS = Path(__file__).parent.parent.parent


def wheel(directory: Path, name: str, files: dict[str, bytes]) -> None:
    """A wheel of distribution `name`."""
    directory.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\n")
        archive.writestr(f"{name}-1.0.dist-info/licenses/LICENSE", "do as you like\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A pure distribution and one whose compiled module differs, laid out."""
    wheels = {python: tmp_path / "wheels" / python.tag for python in PYTHONS}
    for python, directory in wheels.items():
        wheel(directory, "click", {"click/__init__.py": b"pure", "click/py.typed": b""})
        wheel(
            directory,
            "msgpack",
            {"msgpack/__init__.py": b"same", f"msgpack/_c.{python.tag}.so": python.tag.encode()},
        )
    described = lay_out(tmp_path / "root", wheels, OURS)
    assert set(described) == {"click", "msgpack"}
    return tmp_path / "root" / PREFIX


def test_common_files_are_packed_once(tree: Path) -> None:
    """Pure modules go to `common`, which every version reads."""
    assert (tree / "common" / "click" / "__init__.py").read_bytes() == b"pure"
    assert not list(tree.glob("lib/*/site-packages/click"))
    for python in PYTHONS:
        added = (tree / python.site / "wad.pth").read_text().strip()
        assert (tree / python.site / added).resolve() == (tree / "common").resolve()


def test_a_distribution_with_a_compiled_module_is_whole_for_each_version(tree: Path) -> None:
    """A module is looked for in its package's own directory; what is the same there is a link."""
    for python in PYTHONS:
        directory = tree / python.site / "msgpack"
        assert (directory / f"_c.{python.tag}.so").read_bytes() == python.tag.encode()
        assert (directory / "__init__.py").read_bytes() == b"same"
        assert (directory / "__init__.py").is_symlink() is (python is not PYTHONS[0])


def test_wad_itself_is_there(tree: Path) -> None:
    """Both commands find their modules."""
    assert (tree / "common" / "wad" / "daemon.py").is_file()
    assert (tree / "common" / "wadctl" / "__main__.py").is_file()


def test_the_interpreter_is_the_systems(tree: Path) -> None:
    """It chooses the directory of its own version; an upgrade of the system needs no other package."""
    assert (tree / "bin" / "python").readlink() == Path("/usr/bin/python3")
    assert "home = /usr/bin" in (tree / "pyvenv.cfg").read_text()


def test_a_wheel_is_read(tmp_path: Path) -> None:
    """Modules that are kept, and what describes the distribution; `.data` is where some wheels keep their modules."""
    wheel(
        tmp_path,
        "segno",
        {"segno-1.0.data/purelib/segno/__init__.py": b"x", "segno-1.0.data/scripts/segno": b"x"},
    )
    modules, described = read_wheel(tmp_path / "segno-1.0-py3-none-any.whl", "segno")
    assert set(modules) == {"segno/__init__.py"}
    assert set(described) == {
        "segno-1.0.dist-info/METADATA",
        "segno-1.0.dist-info/licenses/LICENSE",
    }


def test_names_of_distributions() -> None:
    """As in the lock file."""
    assert distribution(Path("Charset_Normalizer-3.0-py3-none-any.whl")) == "charset-normalizer"


def test_platforms_are_those_of_the_oldest_system() -> None:
    """Debian 12 has glibc 2.36; a wheel for a newer one would not load there."""
    tags = platforms(ARCHITECTURES["arm64"])
    assert tags[0] == "manylinux_2_36_aarch64"
    assert tags[-1] == "manylinux2014_aarch64"
