"""What the lab takes out of the documentation."""

from __future__ import annotations

import pytest

from tests.lab.pages import blocks, commands, commands_in

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
