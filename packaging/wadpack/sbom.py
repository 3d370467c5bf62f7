"""The bill of materials of a package: CycloneDX 1.6, made from the wheels that were packed and from what they say.

One component for each wheel, and for each Go module in the WhatsApp library; the same bytes for the same wheels.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from wadpack.gobuild import Module
from wadpack.licences import GO_LICENCES, plain
from wadpack.lock import Pin
from wadpack.payload import distribution

PLACE: Final = "usr/share/doc/wad/sbom.cdx.json"
_NAMESPACE: Final = uuid.UUID("7f1c9f52-3b0a-4a86-9a6d-0d6a2c1f7a11")
_SPDX: Final = {
    "GPL-3": "GPL-3.0-only",
    "Apache 2.0": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""Other names of licences, as publishers write them."""
_SILENT: Final = {"neonize": "Apache-2.0"}
"""Of distributions whose description says nothing: as their repository does."""
_LIBRARY: Final = "neonize"
"""The distribution that the Go modules are in."""

Document = dict[str, Any]


def sbom(
    version: str,
    architecture: str,
    wheels: Iterable[Path],
    pins: Iterable[Pin],
    compiled: Iterable[Module],
    go: str,
) -> bytes:
    """The whole document.

    `wheels`: those of every Python, one of several that are the same file counts; `pins`: what the lock says of them;
    `compiled`: the modules in the WhatsApp library; `go`: the version of Go that it was built with.
    """
    files = {wheel.name: wheel for wheel in wheels}
    by_name = {pin.name: pin for pin in pins}
    packed = [_wheel(files[name], by_name) for name in sorted(files)]
    modules = [_module(each.path, each.version, _go_licence(each)) for each in compiled]
    modules.append(_module("stdlib", go.removeprefix("go"), "BSD-3-Clause"))
    modules.sort(key=_ref)
    ours = {
        "type": "application",
        "bom-ref": f"pkg:deb/debian/wad@{quote(version)}?arch={architecture}",
        "name": "wad",
        "version": version,
        "purl": f"pkg:deb/debian/wad@{quote(version)}?arch={architecture}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    document: Document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": ours, "lifecycles": [{"phase": "build"}]},
        "components": [*packed, *modules],
        "dependencies": _dependencies(ours, packed, modules, by_name),
    }
    content = json.dumps(document, sort_keys=True).encode()
    document["serialNumber"] = (
        f"urn:uuid:{uuid.uuid5(_NAMESPACE, hashlib.sha256(content).hexdigest())}"
    )
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _wheel(wheel: Path, pins: Mapping[str, Pin]) -> Document:
    name, version = distribution(wheel), wheel.name.split("-")[1]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    purl = f"pkg:pypi/{name}@{quote(version)}?file_name={quote(wheel.name, safe='')}"
    locked = pins[name].hashes if name in pins else ()
    properties = [{"name": "wad:file", "value": wheel.name}]
    if f"sha256:{digest}" not in locked:
        # Built here of the archive that the lock names, as its publisher has no wheel.
        properties += [{"name": "wad:built-from", "value": each} for each in sorted(locked)]
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": _licences(name, _metadata(wheel)),
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": properties,
    }


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return archive.read(name).decode("utf-8", "replace").partition("\n\n")[0]


def _licences(name: str, metadata: str) -> list[Document]:
    if found := re.search(r"^License-Expression: (.+)$", metadata, re.M):
        return [{"expression": found[1].strip()}]
    said = re.findall(
        r"^(?:License|Classifier: License :: OSI Approved ::) ?:? ?(.+)$", metadata, re.M
    )
    words = [word.strip() for word in said if len(word) < 60] or [_SILENT.get(name, "")]
    ids = {_SPDX.get(word, word) for word in words}
    known = sorted(each for each in ids if re.fullmatch(r"[A-Za-z0-9.+-]+", each))
    if known:
        return [{"license": {"id": known[0]}}]
    return [{"license": {"name": words[0] or "as its publisher states"}}]


def _module(path: str, version: str, licence: str) -> Document:
    purl = f"pkg:golang/{quote(path, safe='/')}@{quote(version)}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": path,
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"id": licence}}],
    }


def _go_licence(module: Module) -> str:
    licence, _ = GO_LICENCES[plain(module)]
    return _SPDX.get(licence, licence)


def _dependencies(
    ours: Document, packed: list[Document], modules: list[Document], pins: Mapping[str, Pin]
) -> list[Document]:
    """Who needs whom, as the lock says it; wad itself stands for what only it needs."""
    wanted: dict[str, set[str]] = {_ref(each): set() for each in (ours, *packed, *modules)}
    by_name: dict[str, list[str]] = {}
    for each in packed:
        by_name.setdefault(each["name"], []).append(_ref(each))
    for each in packed:
        users = [user for name in _users(pins.get(each["name"])) for user in by_name.get(name, ())]
        for user in users or [_ref(ours)]:
            wanted[user].add(_ref(each))
    for user in by_name.get(_LIBRARY, ()):
        wanted[user].update(map(_ref, modules))
    return [{"ref": ref, "dependsOn": sorted(needs)} for ref, needs in sorted(wanted.items())]


def _users(pin: Pin | None) -> tuple[str, ...]:
    return () if pin is None else pin.wanted_by


def _ref(component: Document) -> str:
    return str(component["bom-ref"])
