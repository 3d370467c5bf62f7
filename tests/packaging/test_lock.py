"""The lock file names everything that is installed, and the package's list says of each whether it is brought."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from wadpack.bundle import BUNDLED, LEFT_OUT, keeps
from wadpack.lock import Pin, read_lock

ROOT = Path(__file__).parent.parent.parent
PINS = read_lock(ROOT / "requirements.txt")


def plain(name: str) -> str:
    """The normalized name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(section: str, key: str) -> list[Requirement]:
    """What setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in config[section][key].split("\n") if line]


def on_linux(marker: str) -> bool:
    """Whether a pin with this marker applies to us."""
    ours = {"sys_platform": "linux", "platform_python_implementation": "CPython"}
    return not marker or Marker(marker).evaluate(ours)


def needed() -> set[str]:
    """What wad needs on Linux when it runs, and what that needs."""
    found = {plain(each.name) for each in declared("options", "install_requires")}
    while True:
        more = {
            plain(pin.name)
            for pin in PINS
            if found & {plain(each) for each in pin.wanted_by} and on_linux(pin.marker)
        }
        if more <= found:
            return found
        found |= more


@pytest.mark.parametrize(
    "wanted",
    [
        *declared("options", "install_requires"),
        *declared("options.extras_require", "test"),
    ],
    ids=lambda wanted: str(wanted.name),
)
def test_requirements_of_setup_cfg_are_locked(wanted: Requirement) -> None:
    """After a change of setup.cfg: `make lock`."""
    pins = [pin for pin in PINS if plain(pin.name) == plain(wanted.name)]  # one for each marker
    assert any(wanted.specifier.contains(pin.version) for pin in pins)


def test_every_file_is_hashed() -> None:
    """pip takes nothing that is not exactly what was locked."""
    assert not [pin.name for pin in PINS if not pin.hashes]


def test_each_is_brought_or_left_out_for_a_reason() -> None:
    """A new distribution needs a decision."""
    assert needed() - {*BUNDLED} - {*LEFT_OUT} == set()


def test_nothing_is_brought_that_wad_does_not_need() -> None:
    """What only tests want stays out, and no entry outlives its distribution."""
    assert {*BUNDLED, *LEFT_OUT} - needed() == set()
    assert {*BUNDLED} & {*LEFT_OUT} == set()


@pytest.mark.parametrize(
    ("name", "path", "kept"),
    [
        ("neonize", "neonize/neonize-linux-amd64.so", True),
        ("neonize", "neonize/proto/Neonize_pb2.py", True),
        ("neonize", "neonize/client.py", False),
        ("grpcio", "grpc/_cython/cygrpc.cpython-311-x86_64-linux-gnu.so", True),
        ("msgpack", "msgpack/_cmsgpack.pyx", False),
        ("google-cloud-firestore", "google/cloud/firestore_admin_v1/types/index.py", False),
        ("click", "click/py.typed", False),
    ],
)
def test_of_each_only_what_a_daemon_loads(name: str, path: str, kept: bool) -> None:
    """Sources, types and other services stay out."""
    assert keeps(name, path) is kept


def test_a_lock_file_is_read(tmp_path: Path) -> None:
    """As `make lock` writes it: pins with markers, hashes, and what wants them."""
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# by uv\n"
        "a==1.0 ; sys_platform == 'win32' \\\n"
        "    --hash=sha256:01 \\\n"
        "    --hash=sha256:02\n"
        "    # via b\n"
        "b==2.0 \\\n"
        "    --hash=sha256:03\n"
        "    # via\n"
        "    #   wad (setup.cfg)\n"
        "    #   c\n"
    )
    assert read_lock(path) == [
        Pin("a", "1.0", "sys_platform == 'win32'", ("sha256:01", "sha256:02"), ("b",)),
        Pin("b", "2.0", "", ("sha256:03",), ("wad (setup.cfg)", "c")),
    ]
    assert read_lock(path)[0].line() == "a==1.0 --hash=sha256:01 --hash=sha256:02"
