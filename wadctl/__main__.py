"""`wadctl`: the commands, and how they end.

Exit codes: 0 done, 1 declined or an error without a class of its own, 2 usage, 130 Ctrl-C, 141 the reader of our output
went away, 74 the output cannot be written; all others are the `exit_code` of `wad.core.errors`.
"""

from __future__ import annotations

import os
from typing import Any, Final

import click

import wad
from wad.api.operation import find, operations
from wad.core.errors import BadInput, WadError
from wad.lib.streams import BROKEN_PIPE, drop_output, run
from wadctl.auditing import audit_group
from wadctl.backfilling import backfill_command
from wadctl.cloudrun import cloud_run_group
from wadctl.commands import Command, CommandGroup, command_of, grow, json_option
from wadctl.copying import copy_command
from wadctl.doctoring import doctor_command
from wadctl.files import send_file_command
from wadctl.importing import import_command
from wadctl.moving import session_export_command, session_import_command
from wadctl.pairing import pair
from wadctl.repairing import repair_command
from wadctl.restarting import restart_daemon
from wadctl.sending import judge, takes_wait
from wadctl.session import Invocation, session, socket_path
from wadctl.token import token_group
from wadctl.verifying import verify_command

INTERRUPTED: Final = 130


class Root(CommandGroup):
    """The first word; it turns whatever ends a command into an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.  Raises Exit."""
        try:
            return super().invoke(ctx)
        except WadError as error:
            ctx.obj.failed(error)
            raise click.exceptions.Exit(error.exit_code) from error
        except UnicodeEncodeError as error:
            failure = _not_text(error)
            ctx.obj.failed(failure)
            raise click.exceptions.Exit(failure.exit_code) from error
        except (KeyboardInterrupt, click.exceptions.Abort) as error:
            raise click.exceptions.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            drop_output()
            raise click.exceptions.Exit(BROKEN_PIPE) from error


def _not_text(error: UnicodeEncodeError) -> BadInput:
    """An argument with bytes that are no UTF-8, which Python keeps as halves of characters."""
    given = str(error.object).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return BadInput(
        f"{given[:80]!r} is no UTF-8 text", hint="set the terminal to UTF-8, and type it again"
    )


def _start(socket: str | None, timeout: float) -> None:
    click.get_current_context().obj = Invocation(socket_path(socket, os.environ), timeout)


root = Root(
    "wadctl",
    params=[
        click.Option(
            ["--socket"],
            metavar="PATH",
            help="The daemon's control socket [default: $WAD_SOCKET, else control.sock in $WAD_STATE_DIR, else"
            " /run/wad/control.sock].",
        ),
        click.Option(
            ["--timeout"],
            type=click.FloatRange(0.1, 3600),
            default=30.0,
            show_default=True,
            help="Wait so many seconds for an answer.",
        ),
    ],
    callback=_start,
    help="Look at and steer wad, the daemon that owns WhatsApp accounts.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


# --- made by hand, for what one operation alone does not do --------------------------------------------


def _add() -> Command:
    option = click.Option(["--pair"], is_flag=True, help="Go on with pairing it.")

    def added(now: Invocation, values: dict[str, Any], reply: Any) -> None:
        if not values["pair"]:
            now.show("accounts.add", reply)
            return
        now.say(f"added {reply['id']}")
        if now.json:
            now.document({"event": "added", "account": reply["id"]})
        pair(now, reply["id"])

    return command_of(find("accounts.add"), added, [option])


def _pair() -> Command:
    """Only its name, help and argument come from the operation; the rest is a conversation."""
    command = command_of(find("accounts.pair"))
    command.params.insert(
        1,
        click.Option(
            ["--timeout"],
            type=click.FloatRange(0),
            default=0,
            help="Give up after so many seconds [default: when the pairing window closes].",
        ),
    )
    command.callback = lambda account, timeout: pair(session(), account, timeout)
    return command


def _restart(account: str | None, timeout: float) -> None:
    now = session()
    if account is None:
        restart_daemon(now, timeout)
        return
    with now.client() as client:
        now.show("accounts.restart", client.call("accounts.restart", {"account": account}))


def _version() -> None:
    now = session()
    try:
        with now.client() as client:
            daemon, why = client.call("version"), ""
    except WadError as error:
        daemon, why = None, str(error)
    if now.json:
        now.document({"client": wad.__version__, "daemon": daemon, "error": why or None})
        return
    now.say(f"wadctl {wad.__version__}")
    if daemon is None:
        now.say(f"wad    not known: {why}")
    else:
        now.say(f"wad    {daemon['version']} on {daemon['instance']}, pid {daemon['pid']}")


def _completion(shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # the choice below names only shells that click knows
    click.echo(kind(root, {}, "wadctl", "_WADCTL_COMPLETE").source())


def _by_hand() -> list[click.Command]:
    restart = Command(
        "restart",
        params=[
            click.Argument(["account"], required=False),
            click.Option(
                ["--timeout"],
                type=click.FloatRange(0),
                default=60.0,
                show_default=True,
                help="Wait so many seconds for the next process.",
            ),
            json_option(),
        ],
        callback=_restart,
        short_help="Restart the daemon, or give one account a fresh worker process.",
        help="Restart the daemon, or give one account a fresh worker process.\n\n"
        "For the daemon it waits until another process answers and knows as many accounts as before.",
    )
    restart.arguments = (("[ACCOUNT]", "only this account (id, name or number)"),)
    version = Command(
        "version",
        params=[json_option()],
        callback=_version,
        short_help="Show the versions of wadctl and of the running daemon, which need not answer.",
        help="Show the versions of wadctl and of the running daemon, which need not answer.",
    )
    completion = Command(
        "completion",
        params=[click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]))],
        callback=_completion,
        help="Print a completion script for a shell.\n\n"
        'bash: eval "$(wadctl completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc;'
        " fish: wadctl completion fish > ~/.config/fish/completions/wadctl.fish",
    )
    completion.arguments = (("SHELL", "bash, zsh or fish"),)
    audit = audit_group()
    audit.add_command(repair_command())
    looking = [audit, doctor_command(), verify_command(), cloud_run_group()]
    return [restart, version, completion, token_group(), *looking]


def _build() -> None:
    made: dict[str, click.Command] = {
        name: command_of(operation, judge)
        for name, operation in operations().items()
        if takes_wait(operation)
    }
    made |= {
        "accounts.add": _add(),
        "accounts.backfill": backfill_command(),
        "accounts.import_baileys": import_command(),
        "accounts.pair": _pair(),
        "messages.send_file": send_file_command(),
        "store.copy": copy_command(),
        "sessions.export": session_export_command(),
        "sessions.import": session_import_command(),
    }
    for command in _by_hand():
        root.add_command(command)
    grow(root, operations().values(), made)


_build()


def main() -> None:
    """The entry point."""
    run("wadctl", lambda: root.main(prog_name="wadctl"))


if __name__ == "__main__":
    main()
