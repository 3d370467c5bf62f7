"""A class name has one meaning: it is defined in one file."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_each_class_name_is_defined_in_one_file() -> None:
    """A search for a name finds one class."""
    found: dict[str, list[str]] = defaultdict(list)
    paths = [*ROOT.glob("wad/**/*.py"), *ROOT.glob("wadctl/**/*.py")]
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert len(found) > 500
    assert {name: where for name, where in found.items() if len(where) > 1} == {}
