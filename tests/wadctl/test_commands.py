"""The commands of wadctl, made from the table of operations."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.support.wadctl_world import COMMAND, Served, environment, run
from tests.wadctl_reference import reference
from wad.api.operation import Access, Operation, Params, operations
from wad.core.errors import WadError
from wadctl.__main__ import root
from wadctl.commands import CommandGroup, add_commands


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


EVERY = dict(commands(root))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    """Asked for, it explains itself and what it takes."""
    result = CliRunner().invoke(root, [*path, "--help"])
    assert result.exit_code == 0
    command = EVERY[path]
    assert command.help
    for param in command.params:
        if isinstance(param, click.Argument):
            assert "Arguments:" in result.stdout
        elif isinstance(param, click.Option):
            assert param.help, param.name


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_json(path: tuple[str, ...]) -> None:
    """All but help, the script for a shell, and groups that do nothing alone."""
    command = EVERY[path]
    if path in (("completion",), ("help",)) or (
        isinstance(command, CommandGroup) and not command.callback
    ):
        return
    assert "--json" in [option for param in command.params for option in param.opts]


def test_every_declared_command_exists() -> None:
    """The table is the command line."""
    assert {found.command for found in operations().values() if found.command} <= set(EVERY)


def test_a_new_operation_appears_by_itself(world: Served) -> None:
    """A declaration is enough for a command with arguments, options and a table."""

    class Ask(Params, frozen=True):
        """What to ask."""

        first: str
        many: int = 3

    async def handler(context: object, request: Ask) -> None:
        """Do something new."""

    group = CommandGroup("wadctl")
    new = Operation("new", Access.READ, ("new", "thing"), False, Ask, dict, False, handler)
    add_commands(group, [new], {})
    result = CliRunner().invoke(group, ["new", "thing", "--help"])
    assert "FIRST" in result.stdout
    assert "--many INTEGER" in result.stdout


def test_the_outbox_is_a_command_and_a_group(world: Served) -> None:
    """Alone it lists; with another argument it runs that command."""

    async def entries(*_: object, **__: object) -> list[Any]:
        return []

    world.do(lambda d: setattr(d.store, "entries", entries))
    assert run(world, "outbox").stdout == "the outbox is empty\n"
    assert "Cancel" not in run(world, "outbox", "retry", "--help").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """A script that calls wadctl back."""
    result = CliRunner().invoke(root, ["completion", shell])
    assert result.exit_code == 0
    assert "_WADCTL_COMPLETE" in result.stdout


def test_completion_completes(world: Served) -> None:
    """What a shell asks is answered."""
    env = environment(
        world.socket, _WADCTL_COMPLETE="bash_complete", COMP_WORDS="wadctl acc", COMP_CWORD="1"
    )
    out = subprocess.run(COMMAND, env=env, capture_output=True, text=True, check=True).stdout
    assert out == "plain,account\n"


def test_it_starts_light(world: Served) -> None:
    """`status` loads neither asyncio nor what only pairing or the daemon needs."""
    code = (
        "import sys; from wadctl.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'segno', 'neonize', 'uvicorn', 'sqlite3', 'subprocess', 'wad.flow', 'wad.store',"
        " 'wad.engine', 'wad.config', 'wad.audit'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    command = [COMMAND[0], "-c", code, "status"]
    done = subprocess.run(
        command, env=environment(world.socket), capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_the_exit_codes_are_documented() -> None:
    """The reference has every exit code of an error."""
    text = reference()
    for kind in WadError.by_code.values():
        assert f"`{kind.code}`" in text
        assert re.search(rf"^\| {kind.exit_code} \|", text, re.MULTILINE)
