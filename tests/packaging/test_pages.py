"""What the lab takes out of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import operating
from tests.lab.pages import blocks, commands, commands_in, indented_in, table, table_in

TEXT = """
## One
```sh
echo none
```
## Install
Words.

```sh
sudo apt install ./it    # a comment
# another

status "#1"
```

```sh
later
```
### Two
"""


def test_the_commands_below_a_heading() -> None:
    """Of the first block there, without comments."""
    assert commands_in(TEXT, "Install") == ["sudo apt install ./it", 'status "#1"']


@pytest.mark.parametrize("heading", ["Two", "Three"])
def test_a_section_without_commands(heading: str) -> None:
    """A trial that would try nothing is an error."""
    with pytest.raises(LookupError):
        commands_in(TEXT, heading)


def test_the_indented_commands_below_a_heading() -> None:
    """Without comments; other lines are none."""
    text = "## Two\nWords\n\n    wadctl one   # a comment\n    wadctl two\n\n```toml\n[x]\n```\n## Three\n    no\n"
    assert indented_in(text, "Two") == ["wadctl one", "wadctl two"]
    with pytest.raises(LookupError):
        indented_in(text, "Four")


def test_the_commands_of_a_table() -> None:
    """What is set as code in its second column, by the first."""
    text = "| it | is |\n|---|---|\n| x | `y` |\n\n| to do | how |\n|---|---|\n| `one` | `a b`, then `c` |\n\nWords\n"
    assert table_in(text, "to do") == {"`one`": ["a b", "c"]}
    with pytest.raises(LookupError):
        table_in(text, "not there")


def test_every_thing_to_do_is_tried() -> None:
    """A trial names each row of the operator's table."""
    lab = Path(operating.__file__).parent
    trials = "".join(path.read_text("utf-8") for path in sorted(lab.glob("*.py")))
    rows = table("to do", operating.PAGE)
    assert len(rows) >= 10
    assert [row for row in rows if f'"{row}"' not in trials] == []


@pytest.mark.parametrize(
    ("heading", "page"),
    [
        ("Install", "README.md"),
        ("The first account", "README.md"),
        ("A repository of one's own", "docs/operations.md"),
    ],
)
def test_the_sections_that_the_lab_tries(heading: str, page: str) -> None:
    """They are there."""
    assert len(commands(heading, page)) >= 3


@pytest.mark.parametrize(("heading", "count"), [("Step by step", 6), ("The way back", 2)])
def test_every_block_of_the_way_from_the_node_backend(heading: str, count: int) -> None:
    """Also those within the steps of a list; names of examples become those of the lab."""
    found = blocks(heading, "docs/migration.md", BACKEND="node-backend")
    assert len(found) == count
    assert not [line for block in found for line in block if "BACKEND" in line]
    assert "systemctl disable --now node-backend" in [line for block in found for line in block]
