"""`wadctl token create`: creates a token for HTTP and its line for the configuration, without a daemon."""

from __future__ import annotations

import secrets
from typing import Final

import click

from wad.core.token import Role, fresh, named
from wadctl.commands import Command, CommandGroup, json_option
from wadctl.invocation import current_invocation

_HOW: Final = """\

The token is shown only once; `line` has its hash. These commands, as root, let wad accept it:

mkdir -p /etc/wad /etc/systemd/system/wad.service.d
echo '{line}' >> /etc/wad/http-tokens
printf '[Service]\\nLoadCredential=http-tokens:/etc/wad/http-tokens\\n' \\
  > /etc/systemd/system/wad.service.d/http-tokens.conf
systemctl daemon-reload
systemctl restart wad

The credential replaces http.tokens of wad.toml: where that is set, add the line there instead."""


def _create(name: str, role: str) -> None:
    invocation = current_invocation()
    token = fresh(secrets.token_bytes)
    line = str(named(name, Role(role), token))
    if invocation.json:
        invocation.print_json({"name": name, "role": role, "token": token, "line": line})
        return
    invocation.print_line(f"token   {token}")
    invocation.print_line(f"line    {line}")
    invocation.print_line(_HOW.format(line=line))


def token_group() -> click.Group:
    """The group `wadctl token` with its command."""
    create = Command(
        "create",
        params=[
            click.Argument(["name"]),
            click.Option(
                ["--role"],
                type=click.Choice([str(role) for role in Role]),
                required=True,
                help="viewer: read; employee: also send and control; admin: also what cannot be undone.",
            ),
            json_option(),
        ],
        callback=_create,
        help="Create a token for HTTP.\n\nIt is shown only once; the configuration holds its hash.\n\n"
        "Example: wadctl token create crm --role employee",
    )
    create.arguments = (("NAME", "a name for the token, used in logs and rate limits"),)
    group = CommandGroup("token", help="Create tokens for HTTP.")
    group.add_command(create)
    return group
