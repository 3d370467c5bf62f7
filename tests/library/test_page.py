"""The page of the library's traps names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "engine-traps.md").read_text("utf-8")
NAMED = re.findall(r"`(?:(tests/[\w/]+\.py)|(\w+))::(test_\w+)`", PAGE)
OURS = sorted(set(ROOT.glob("tests/library/test_*.py")) - {Path(__file__)})


@pytest.mark.parametrize(
    ("path", "test"),
    [(path or f"tests/library/test_{short}.py", test) for path, short, test in NAMED],
)
def test_a_test_that_is_named_exists(path: str, test: str) -> None:
    """Who renames one finds its row."""
    text = (ROOT / path).read_text("utf-8")
    assert f"def {test}(" in text


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_each_test_of_a_trap_is_named(path: Path) -> None:
    """Who adds one says for what."""
    defined = set(re.findall(r"def (test_\w+)\(", path.read_text("utf-8")))
    assert defined <= {test for _, _, test in NAMED}
