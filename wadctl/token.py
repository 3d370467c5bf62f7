"""`wadctl token create`: a token for HTTP, shown once, and the line of it for the configuration.  Asks no daemon."""

from __future__ import annotations

import secrets

import click

from wad.core.token import Role, fresh, named
from wadctl.commands import Command, CommandGroup, json_option
from wadctl.session import session


def _create(name: str, role: str) -> None:
    now = session()
    token = fresh(secrets.token_bytes)
    line = str(named(name, Role(role), token))
    if now.json:
        now.document({"name": name, "role": role, "token": token, "line": line})
        return
    now.say(f"token   {token}")
    now.say(f"line    {line}")
    now.say(
        "The token is shown this once. Add the line to http.tokens, or to the systemd credential"
    )
    now.say("http-tokens (/etc/credstore/http-tokens), and restart wad.")


def token_group() -> click.Group:
    """The commands for tokens."""
    create = Command(
        "create",
        params=[
            click.Argument(["name"]),
            click.Option(
                ["--role"],
                type=click.Choice([str(role) for role in Role]),
                required=True,
                help="viewer looks, employee sends and steers, admin does also what cannot be undone.",
            ),
            json_option(),
        ],
        callback=_create,
        help="Make a token for HTTP.\n\nIt is shown once; the configuration keeps its hash.",
    )
    create.arguments = (("NAME", "a name for it, which logs and limits use"),)
    group = CommandGroup("token", help="Commands for tokens.")
    group.add_command(create)
    return group
