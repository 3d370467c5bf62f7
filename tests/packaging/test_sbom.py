"""The bill of materials: valid by CycloneDX's own schema, whole, and the same twice."""

from __future__ import annotations

import hashlib
import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from wadpack.gobuild import go_version
from wadpack.lock import Pin
from wadpack.sbom import sbom

from tests.packaging.test_licences import COMPILED, library

BUILT = "sha256:" + "ab" * 32


def a_wheel(directory: Path, file: str, metadata: str) -> Path:
    """A wheel with nothing but its description."""
    name, version, *_ = file.split("-")
    path = directory / file
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}-{version}.dist-info/METADATA"), metadata)
    return path


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    """As publishers describe them: by an expression, a name, a classifier, or not at all."""
    described = {
        "click-8.1.7-py3-none-any.whl": "Name: click\nLicense-Expression: BSD-3-Clause\n",
        "cryptography-50.0.2-cp311-abi3-manylinux_2_28_x86_64.whl": "License-Expression: Apache-2.0 OR BSD-3-Clause\n",
        "google_auth-2.1-py3-none-any.whl": "License: Apache 2.0\n",
        "segno-1.6-py3-none-any.whl": "Classifier: License :: OSI Approved :: BSD License\n",
        "sdnotify-0.3-py3-none-any.whl": "Classifier: License :: OSI Approved :: MIT License\n\nLicense: no header\n",
        "neonize-0.5.2-py3-none-manylinux_2_28_x86_64.whl": "Name: neonize\n",
        "odd-1.0+local-py3-none-any.whl": "License: Do what you like, but say so\n",
    }
    return [a_wheel(tmp_path, file, text) for file, text in described.items()]


def pins(wheels: list[Path]) -> list[Pin]:
    """What the lock says: every wheel but the one that was built here."""
    found = []
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        hashes = (BUILT,) if name == "sdnotify" else (f"sha256:{digest}",)
        wanted = ("google-auth",) if name == "cryptography" else ("wad (setup.cfg)",)
        found.append(Pin(name.replace("_", "-"), version, "", hashes, wanted))
    return found


def made(wheels: list[Path]) -> bytes:
    """The bill of these wheels and of the installed library."""
    return sbom("0.1.0~rc1", "amd64", wheels, pins(wheels), COMPILED, go_version(library()))


@pytest.fixture
def bill(wheels: list[Path]) -> dict[str, Any]:
    """The same, read."""
    found: dict[str, Any] = json.loads(made(wheels))
    return found


def test_it_is_valid(wheels: list[Path]) -> None:
    """By the strict schema of the version that it names: licences are SPDX's, hashes and references are whole."""
    version = importlib.import_module("cyclonedx.schema").SchemaVersion.V1_6
    validator = importlib.import_module("cyclonedx.validation.json").JsonStrictValidator(version)
    assert validator.validate_str(made(wheels).decode()) is None


def test_it_is_the_same_twice(wheels: list[Path]) -> None:
    """Whatever the order of the files; no time, no machine, no path is in it."""
    assert made(wheels) == made(wheels[::-1]) == made([*wheels, *wheels])
    assert str(wheels[0].parent).encode() not in made(wheels)


def test_every_wheel_is_named(wheels: list[Path], bill: dict[str, Any]) -> None:
    """With version, purl, licence and the hash of the file."""
    by_file = {
        each["properties"][0]["value"]: each for each in bill["components"] if "properties" in each
    }
    assert set(by_file) == {wheel.name for wheel in wheels}
    for wheel in wheels:
        found = by_file[wheel.name]
        assert found["version"] == wheel.name.split("-")[1]
        assert found["purl"].startswith(f"pkg:pypi/{found['name']}@")
        assert found["hashes"][0]["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    licences = {each["name"]: each["licenses"] for each in by_file.values()}
    assert licences == {
        "click": [{"expression": "BSD-3-Clause"}],
        "cryptography": [{"expression": "Apache-2.0 OR BSD-3-Clause"}],
        "google-auth": [{"license": {"id": "Apache-2.0"}}],
        "segno": [{"license": {"id": "BSD-3-Clause"}}],
        "sdnotify": [{"license": {"id": "MIT"}}],
        "neonize": [{"license": {"id": "Apache-2.0"}}],
        "odd": [{"license": {"name": "Do what you like, but say so"}}],
    }


def test_a_wheel_that_was_built_here_names_its_archive(bill: dict[str, Any]) -> None:
    """Its own hash is in no lock."""
    (built,) = [each for each in bill["components"] if each["name"] == "sdnotify"]
    assert {"name": "wad:built-from", "value": BUILT} in built["properties"]
    (other,) = [each for each in bill["components"] if each["name"] == "click"]
    assert len(other["properties"]) == 1


def test_the_library_s_modules_are_named(bill: dict[str, Any]) -> None:
    """Go's own library as well: most code that reads a stranger's bytes is in them."""
    named = {each["name"]: each for each in bill["components"]}
    assert {module.path for module in COMPILED} <= set(named)
    assert named["stdlib"]["purl"].startswith("pkg:golang/stdlib@1.")
    assert named["go.mau.fi/libsignal"]["licenses"] == [{"license": {"id": "GPL-3.0-only"}}]


def test_dependencies(bill: dict[str, Any]) -> None:
    """As the lock says it; the modules belong to the library."""
    needs = {each["ref"].partition("?")[0]: each["dependsOn"] for each in bill["dependencies"]}
    assert len(needs) == len(bill["components"]) + 1
    assert [ref.partition("@")[0] for ref in needs["pkg:pypi/google-auth@2.1"]] == [
        "pkg:pypi/cryptography"
    ]
    ours = needs["pkg:deb/debian/wad@0.1.0~rc1"]
    assert any(ref.startswith("pkg:pypi/click@") for ref in ours)
    assert not any(ref.startswith("pkg:pypi/cryptography@") for ref in ours)
    assert len(needs["pkg:pypi/neonize@0.5.2"]) == len(COMPILED) + 1
