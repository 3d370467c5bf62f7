"""Writes docs/wadctl.md from the commands themselves: python -m tests.wadctl_reference"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from wad.core.errors import WadError
from wadctl.__main__ import root

REFERENCE: Final = Path(__file__).parent.parent / "docs" / "wadctl.md"

_INTRO: Final = """\
# wadctl

<!-- Written by `python -m tests.wadctl_reference`; a test compares. Change the help texts in wad/api/operations. -->

`wadctl` looks at and steers the daemon over its Unix socket. Root and the daemon's user may do everything, members of
the group `wad` may look and operate (`adduser $USER wad`), nobody else may connect.

    wadctl status                        # the daemon, its lease, its accounts, what to do
    wadctl account add Shop --pair       # a new account: scan the code with the phone
    wadctl send Shop +15550000002 'hello' --wait 30
    wadctl events --follow               # what happens, as it happens

With `--json` every command prints one JSON document (`events` and `account pair`: one a line) and nothing else on
stdout; a failure prints `{"ok": false, "error": {"code", "message", "hint"}}`. The codes never change their meaning.
Without it, tables are cut to the width of a terminal and never in a pipe; colours appear only on a terminal, and not
with `NO_COLOR`. Times are local.

The socket is that of `--socket`, else `$WAD_SOCKET`, else `/run/wad/wad.sock`. What cannot be undone asks first;
without a terminal it needs `--yes`.

Completion: `eval "$(wadctl completion bash)"` in `~/.bashrc` (or `zsh` in `~/.zshrc`);
`wadctl completion fish > ~/.config/fish/completions/wadctl.fish`.
"""

_MEANINGS: Final = {
    0: "done",
    1: "declined at the question, or a fault without a class of its own",
    2: "usage: a command, option or value that cannot be used",
    3: "no daemon answers on the control socket",
    4: "what was named does not exist",
    5: "not possible in the present state",
    6: "the configuration cannot be used",
    7: "not allowed",
    8: "not now: this instance is passive, something cannot be reached, or no answer came in time",
    9: "WhatsApp, its library or a damaged file",
    130: "ended by Ctrl-C",
    141: "whoever read the output went away",
}


def reference() -> str:
    """The whole page."""
    return "\n".join([_INTRO, *_exit_codes(), "", "## Commands", "", *_commands()])


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n\n| code | meaning | errors |\n|---|---|---|"
    kinds: list[type[WadError]] = [WadError, *WadError.by_code.values()]
    for code in sorted({*_MEANINGS, *(kind.exit_code for kind in kinds)}):
        errors = ", ".join(f"`{kind.code}`" for kind in kinds if kind.exit_code == code)
        yield f"| {code} | {_MEANINGS[code]} | {errors or '-'} |"


def _commands() -> Iterator[str]:
    settings = root.context_settings
    yield from _command(
        root, click.Context(root, info_name="wadctl", terminal_width=100, **settings)
    )


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.commands[name]
            yield from _command(below, click.Context(below, context, info_name=name))


if __name__ == "__main__":
    REFERENCE.write_text(reference())
