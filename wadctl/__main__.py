"""`wadctl`: the commands and the exit codes.

Exit codes: 0 done, 1 declined or an error without a class of its own, 2 usage, 130 Ctrl-C, 141 the reader of the output
went away, 74 the output cannot be written; all others are the `exit_code` of `wad.core.errors`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import click

import wad
from wad.api.operation import find, operations
from wad.api.views.account import AccountView
from wad.api.views.daemon import VersionReply
from wad.core.errors import BadInput, WadError
from wad.lib.streams import BROKEN_PIPE, drop_output, run
from wadctl.auditing import audit_group
from wadctl.backfilling import backfill_command
from wadctl.cloudrun import cloud_run_group
from wadctl.commands import Command, CommandGroup, add_commands, command_of, json_option
from wadctl.copying import copy_command, import_legacy_command
from wadctl.doctoring import doctor_command
from wadctl.files import send_file_command
from wadctl.importing import import_command
from wadctl.invocation import Invocation, current_invocation, socket_path
from wadctl.moving import session_export_command, session_import_command
from wadctl.pairing import PairingOptions, pair
from wadctl.repairing import repair_command
from wadctl.replies import decoded
from wadctl.restarting import restart_daemon
from wadctl.sending import show_result, takes_wait
from wadctl.token import token_group
from wadctl.verifying import verify_command

INTERRUPTED: Final = 130


class Root(CommandGroup):
    """The root command `wadctl`: turns every error into an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.  Raises Exit."""
        try:
            return super().invoke(ctx)
        except WadError as error:
            ctx.obj.print_failure(error)
            raise click.exceptions.Exit(error.exit_code) from error
        except UnicodeEncodeError as error:
            failure = _not_text(error)
            ctx.obj.print_failure(failure)
            raise click.exceptions.Exit(failure.exit_code) from error
        except (KeyboardInterrupt, click.exceptions.Abort) as error:
            raise click.exceptions.Exit(INTERRUPTED) from error
        except BrokenPipeError as error:
            drop_output()
            raise click.exceptions.Exit(BROKEN_PIPE) from error


def _not_text(error: UnicodeEncodeError) -> BadInput:
    """The error for an argument that is not UTF-8; Python keeps such bytes as surrogates."""
    given = str(error.object).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return BadInput(
        f"{given[:80]!r} is not UTF-8", hint="set the terminal to UTF-8 and type it again"
    )


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"wadctl {wad.__version__}")
        ctx.exit()


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
            help="Seconds to wait for the daemon's reply.",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version of wadctl.",
        ),
    ],
    callback=_start,
    help="Inspect and control wad, the daemon that owns WhatsApp accounts.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


# --- custom commands: those that do more than call one operation ----------------------------------------


def _add() -> Command:
    option = click.Option(["--pair"], is_flag=True, help="Pair the account right away.")

    def added(invocation: Invocation, values: dict[str, Any], reply: object) -> None:
        if not values["pair"]:
            invocation.show("accounts.add", reply)
            return
        account = decoded(AccountView, reply).id
        invocation.print_line(f"added {account}")
        if invocation.json:
            invocation.print_json({"event": "added", "account": account})
        pair(invocation, account)

    return command_of(find("accounts.add"), added, [option])


def _pair() -> Command:
    """`account pair`: the name, help and argument are the operation's, the pairing itself is `pairing.pair`."""
    command = command_of(find("accounts.pair"))
    command.params.insert(
        1,
        click.Option(
            ["--timeout"],
            type=click.FloatRange(0),
            default=0,
            help="Give up after this number of seconds [default: when the pairing window closes].",
        ),
    )
    command.params.insert(
        2,
        click.Option(
            ["--png"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write the QR code to this file as a PNG image, instead of drawing it.",
        ),
    )
    command.callback = _run_pair
    return command


def _run_pair(account: str, code: bool, phone: str, timeout: float, png: Path | None) -> None:
    pair(current_invocation(), account, PairingOptions(timeout, code, phone, png))


def _restart(account: str | None, timeout: float) -> None:
    invocation = current_invocation()
    if account is None:
        restart_daemon(invocation, timeout)
        return
    with invocation.client() as client:
        invocation.show("accounts.restart", client.call("accounts.restart", {"account": account}))


def _version() -> None:
    invocation = current_invocation()
    reply, running, error_text = None, "", ""
    try:
        with invocation.client() as client:
            reply = client.call("version")
        if not invocation.json:
            daemon = decoded(VersionReply, reply)
            running = f"{daemon.version} on {daemon.instance}, pid {daemon.pid}"
    except WadError as error:
        error_text = str(error)
    if invocation.json:
        invocation.print_json(
            {"client": wad.__version__, "daemon": reply, "error": error_text or None}
        )
        return
    invocation.print_line(f"wadctl {wad.__version__}")
    invocation.print_line(f"wad    {running or f'unknown: {error_text}'}")


def _help(command: tuple[str, ...]) -> None:
    ctx = click.get_current_context().find_root()
    found: click.Command = root
    for word in command:
        inner = found.get_command(ctx, word) if isinstance(found, click.Group) else None
        if inner is None:
            raise click.UsageError(f"No such command {' '.join(command)!r}.", ctx)
        ctx = click.Context(inner, ctx, word)
        found = inner
    click.echo(found.get_help(ctx), color=ctx.color)


def _completion(shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # the choice below lists only shells that click supports
    click.echo(kind(root, {}, "wadctl", "_WADCTL_COMPLETE").source())


def _custom_commands() -> list[click.Command]:
    restart = Command(
        "restart",
        params=[
            click.Argument(["account"], required=False),
            click.Option(
                ["--timeout"],
                type=click.FloatRange(0),
                default=60.0,
                show_default=True,
                help="Seconds to wait for the new process.",
            ),
            json_option(),
        ],
        callback=_restart,
        short_help="Restart the daemon, or the worker process of one account.",
        help="Restart the daemon, or the worker process of one account.\n\n"
        "For the daemon, wadctl waits until a new process answers with as many accounts as before.\n\n"
        "Example: wadctl restart main",
    )
    restart.arguments = (("[ACCOUNT]", "restart only this account's worker (id, name or number)"),)
    version = Command(
        "version",
        params=[json_option()],
        callback=_version,
        short_help="Show the versions of wadctl and of the running daemon.",
        help="Show the versions of wadctl and of the running daemon.\n\n"
        "Without a daemon, the version of wadctl is shown alone; the exit code is 0 in both cases.",
    )
    help_ = Command(
        "help",
        params=[click.Argument(["command"], nargs=-1)],
        callback=_help,
        help="Show the help of wadctl, or of a command.\n\nExample: wadctl help account pair",
    )
    help_.arguments = (("[COMMAND]...", "the command, as it is typed"),)
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
    system = [audit, doctor_command(), verify_command(), cloud_run_group()]
    return [restart, version, help_, completion, token_group(), *system]


def _build() -> None:
    custom: dict[str, click.Command] = {
        name: command_of(operation, show_result)
        for name, operation in operations().items()
        if takes_wait(operation)
    }
    custom |= {
        "accounts.add": _add(),
        "accounts.backfill": backfill_command(),
        "accounts.import_baileys": import_command(),
        "accounts.pair": _pair(),
        "messages.send_file": send_file_command(),
        "store.copy": copy_command(),
        "store.import_legacy": import_legacy_command(),
        "sessions.export": session_export_command(),
        "sessions.import": session_import_command(),
    }
    for command in _custom_commands():
        root.add_command(command)
    add_commands(root, operations().values(), custom)


_build()


def main() -> None:
    """Run wadctl."""
    run("wadctl", lambda: root.main(prog_name="wadctl"))


if __name__ == "__main__":
    main()
