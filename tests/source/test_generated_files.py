"""What is generated is never edited by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.generate import ROOT, generated
from wad.config import SETTINGS

GENERATED = generated()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_a_document_is_what_the_code_generates(path: Path) -> None:
    """After a change of the declarations: `make docs`."""
    assert path.read_text("utf-8") == GENERATED[path]


def test_the_reference_page_has_a_row_for_each_setting() -> None:
    """The table is there, in the order of the declarations."""
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert re.findall(r"(?m)^\| `([a-z_.]+)` \|", page) == list(SETTINGS)
