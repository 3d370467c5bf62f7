"""`wadctl store copy`: a bar on a terminal, lines for a program, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.wadctl_world import Served, Terminal, environment, run, served
from wad.core.errors import Conflict
from wad.store.port import Copying

STEPS = [Copying(pushed=0, waiting=90, refused=0), Copying(pushed=60, waiting=40, refused=0)]
LAST = Copying(pushed=100, waiting=0, refused=2)


@pytest.fixture
def steps() -> list[Copying]:
    """The copy's reports; more documents arrived while it ran."""
    return [*STEPS, LAST]


@pytest.fixture
def world(
    tmp_path: Path, steps: list[Copying], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    """A daemon whose copy reports these steps, and refuses without steps."""

    async def copy(config: Any, clock: Any) -> AsyncIterator[Copying]:
        if not steps:
            raise Conflict("b holds the lease of this Firestore")
        for step in steps:
            yield step

    monkeypatch.setattr("wad.store.copy_to_firestore", copy)
    with served(tmp_path / "wad.sock") as world:
        yield world


def test_a_person_gets_one_sentence(world: Served) -> None:
    """In a pipe, without a bar; what was refused is named."""
    done = run(world, "store", "copy")
    assert done.exit_code == 0
    assert done.stdout == "copied 100 documents; Firestore refused 2, see the log\n"
    assert done.stderr == ""


def test_a_program_gets_every_step(world: Served, steps: list[Copying]) -> None:
    """A line of JSON each."""
    done = run(world, "store", "copy", "--to", "firestore", "--json")
    pushed = [json.loads(line)["pushed"] for line in done.stdout.splitlines()]
    assert pushed == [step.pushed for step in steps]


def test_a_terminal_shows_a_bar(world: Served) -> None:
    """It reaches its end, although more documents arrived meanwhile."""
    terminal = Terminal("store", "copy", columns=80, lines=24, env=environment(world.socket))
    try:
        assert terminal.wait() == 0, terminal.seen
    finally:
        terminal.close()
    assert "copying" in terminal.seen
    assert "100%" in terminal.seen
    assert "copied 100 documents" in terminal.seen


def test_a_refusal_has_its_exit_code(world: Served, steps: list[Copying]) -> None:
    """Its text is on stderr."""
    steps.clear()
    done = run(world, "store", "copy")
    assert done.exit_code == Conflict.exit_code
    assert "b holds the lease" in done.stderr
