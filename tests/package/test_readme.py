"""What the lab takes out of the README."""

from __future__ import annotations

import pytest

from tests.lab.readme import commands

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
## Two
"""


def test_the_commands_below_a_heading() -> None:
    """Of the first block there, without comments."""
    assert commands("Install", TEXT) == ["sudo apt install ./it", 'status "#1"']


@pytest.mark.parametrize("heading", ["Two", "Three"])
def test_a_section_without_commands(heading: str) -> None:
    """A trial that would try nothing is an error."""
    with pytest.raises(LookupError):
        commands(heading, TEXT)


@pytest.mark.parametrize("heading", ["Install", "The first account"])
def test_the_sections_that_the_lab_tries(heading: str) -> None:
    """They are there."""
    assert len(commands(heading)) >= 3
