"""`wadctl token create`: creates a token for HTTP and its line for the configuration, without a daemon."""

from __future__ import annotations

import secrets

import click

from wad.core.token import Role, fresh, named
from wadctl.commands import Command, CommandGroup, json_option
from wadctl.invocation import current_invocation


def _create(name: str, role: str) -> None:
    invocation = current_invocation()
    token = fresh(secrets.token_bytes)
    line = str(named(name, Role(role), token))
    if invocation.json:
        invocation.print_json({"name": name, "role": role, "token": token, "line": line})
        return
    invocation.print_line(f"token   {token}")
    invocation.print_line(f"line    {line}")
    invocation.print_line(
        "The token is shown only once. Add the text after `line` to http.tokens, or to the file of\n"
        "the systemd credential http-tokens (LoadCredential=), and restart wad."
    )


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
