"""`make docs`: write again what is generated from the code."""

from __future__ import annotations

from pathlib import Path

from tests import wadctl_reference
from tests.docs import problem_table, terminal
from wad.config.documents import sample, with_table

ROOT = Path(__file__).parent.parent


def generated() -> dict[Path, str]:
    """Each generated file and what it must hold."""
    configuration = ROOT / "docs" / "configuration.md"
    operations = ROOT / "docs" / "operations.md"
    return {
        ROOT / "packaging" / "wad.toml": sample(),
        configuration: with_table(configuration.read_text("utf-8")),
        operations: problem_table.with_problems(operations.read_text("utf-8")),
        ROOT / "docs" / "wadctl.md": wadctl_reference.reference(),
        ROOT / "docs" / "images" / "wadctl.svg": terminal.picture(),
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, "utf-8")
