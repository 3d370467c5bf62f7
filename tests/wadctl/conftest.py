"""Fixtures of the tests of wadctl."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.wadctl_world import Served, Terminal, terminals, two_accounts


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Served]:
    """A daemon with two accounts."""
    with two_accounts(tmp_path / "wad.sock") as world:
        yield world


@pytest.fixture
def terminal(world: Served) -> Iterator[Callable[..., Terminal]]:
    """Starts wadctl on a terminal."""
    with terminals(world) as start:
        yield start
