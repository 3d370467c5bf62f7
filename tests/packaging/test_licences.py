"""debian/copyright, made from what is brought."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from wadpack.gobuild import Module, modules
from wadpack.licences import GO_LICENCES, copyright_file, plain


def library() -> Path:
    """The WhatsApp library as installed."""
    spec = importlib.util.find_spec("neonize")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("neonize-linux-*.so"))


COMPILED = modules(library())


def test_the_library_names_its_modules() -> None:
    """Among others the protocol itself, at one version."""
    assert {"go.mau.fi/whatsmeow", "go.mau.fi/libsignal"} <= {module.path for module in COMPILED}
    assert all(module.version for module in COMPILED)


@pytest.mark.parametrize("module", COMPILED, ids=lambda module: str(module.path))
def test_the_licence_of_each_module_is_known(module: Module) -> None:
    """A new module of another build of the library needs a check."""
    assert plain(module) in GO_LICENCES


def test_a_file_that_is_not_a_go_library(tmp_path: Path) -> None:
    """It is refused; a copyright file that leaves something out is worse than none."""
    path = tmp_path / "x.so"
    path.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(ValueError, match="does not say"):
        modules(path)


def test_the_copyright_file() -> None:
    """Each distribution has a stanza with its holders and its licence, as its own files say."""
    described = {
        "click": {
            "click-8.0.dist-info/METADATA": b"Name: click\n",
            "click-8.0.dist-info/licenses/LICENSE": b"Copyright 2014 Pallets\n\nDo as you like.\n",
        },
        "grpcio": {
            "grpcio-1.0.dist-info/METADATA": b"Name: grpcio\nAuthor: The gRPC Authors\n",
            "grpcio-1.0.dist-info/licenses/LICENSE": b"Apache License\nVersion 2.0, January 2004\n",
        },
    }
    text = copyright_file(described, [Module("github.com/google/uuid", "v1.0")])
    assert "Files: usr/lib/wad/*/click*\nCopyright:\n 2014 Pallets\nLicense: click-licence" in text
    assert " Do as you like." in text
    assert (
        "Files: usr/lib/wad/*/grpcio*\nCopyright:\n The gRPC Authors\nLicense: Apache-2.0" in text
    )
    assert " github.com/google/uuid v1.0: BSD-3-Clause, Google Inc." in text
