"""The page of the library's traps names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "internals" / "library.md").read_text("utf-8")
NAMED = re.findall(r"`([\w/.]+)::(test_\w+)`", PAGE)
OURS = {
    path.stem.removeprefix("test_"): path
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if path != Path(__file__)
}


@pytest.mark.parametrize(("where", "test"), NAMED)
def test_a_test_that_is_named_exists(where: str, test: str) -> None:
    """A renamed test is found in its row."""
    path = OURS.get(where, ROOT / where)
    assert f"def {test}(" in path.read_text("utf-8")


@pytest.mark.parametrize("path", OURS.values(), ids=OURS)
def test_each_test_of_a_trap_is_named(path: Path) -> None:
    """A new test says for which trap."""
    defined = set(re.findall(r"def (test_\w+)\(", path.read_text("utf-8")))
    assert defined <= {test for _, test in NAMED}
