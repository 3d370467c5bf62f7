"""Packages are imported without some of their parts, which are loaded at the first use."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from wad.lib.lazy_imports import with_empty_modules, without_modules

_PARTS: Final = ("a_part_for_a_test", "a_part_for_a_test.inner")
_GOOGLE: Final = """
import sys
import wad.store.firestore.client
assert not {"charset_normalizer", "chardet", "idna"} & sys.modules.keys()
import requests
assert requests.Request("GET", "http://bücher.example/").prepare().url == "http://xn--bcher-kva.example/"
response = requests.Response()
response._content = "ü".encode()
assert response.text == "ü"
import charset_normalizer
"""


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package that can be imported."""
    package = tmp_path / _PARTS[0]
    package.mkdir()
    (package / "__init__.py").write_text("from . import inner\n")
    (package / "inner.py").write_text("WORD = 'whole'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield _PARTS[0]
    for name in _PARTS:
        sys.modules.pop(name, None)


def test_an_empty_module_replaces_a_part(part: str) -> None:
    """Only as long as something else is imported."""
    with with_empty_modules(part):
        assert not hasattr(importlib.import_module(part), "inner")
    assert importlib.import_module(part).inner.WORD == "whole"


def test_a_part_is_missing_for_a_while(part: str) -> None:
    """As if it were not installed."""
    with without_modules(part), pytest.raises(ModuleNotFoundError):
        importlib.import_module(part)
    assert importlib.import_module(part).inner.WORD == "whole"


@pytest.mark.parametrize("without", [with_empty_modules, without_modules])
def test_a_loaded_part_stays(
    part: str, without: Callable[[str], AbstractContextManager[None]]
) -> None:
    """Others have it already."""
    loaded = importlib.import_module(part)
    with without(part):
        assert importlib.import_module(part) is loaded
    assert sys.modules[part] is loaded


def test_googles_library_is_loaded_without_tables_of_letters() -> None:
    """Fetching tokens works without them, or loads them."""
    subprocess.run([sys.executable, "-W", "error", "-c", _GOOGLE], check=True)
