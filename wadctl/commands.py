"""Builds a click command for each declared operation that has a command line.

A request field without a default is an argument, one with a default an option; an option for a tuple can be
repeated.  Help texts are the docstrings and the `Meta` descriptions.
"""

from __future__ import annotations

import shlex
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import click
import msgspec

from wad.api.operation import Access, Operation
from wad.core.errors import BadInput
from wadctl.invocation import Invocation, current_invocation
from wadctl.stdin_text import read_text

_TYPES: Final[dict[type, click.ParamType[Any]]] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
}
Then = Callable[[Invocation, dict[str, Any], Any], None]
"""Shows a reply, params_of the values of the command's options."""

_GROUP_HELP: Final = {
    "account": "Add, pair, start, stop and remove accounts.",
    "lease": "Show or change the lease.",
    "quarantine": "List, retry or drop what could not be handled.",
    "session": "Move the session of an account to another machine.",
    "store": "Copy the store.",
}
"""The help of each group that is not a command itself."""
_FROM_STDIN: Final = {"text": "; - reads it from standard input"}
JSON_OPTION: Final = "Print one JSON document instead of text."
LINES_OPTION: Final = "Print one JSON document per line instead of text."


class Command(click.Command):
    """A command whose help also describes its arguments."""

    arguments: tuple[tuple[str, str], ...] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The arguments, then the options."""
        write_arguments(self.arguments, formatter)
        super().format_options(ctx, formatter)


class CommandGroup(click.Group):
    """A command group, which may also be a command of its own (`wadctl outbox`, `wadctl outbox retry`)."""

    arguments: tuple[tuple[str, str], ...] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The arguments, then the options, then the commands."""
        write_arguments(self.arguments, formatter)
        super().format_options(ctx, formatter)


def write_arguments(arguments: Iterable[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    """Write the "Arguments" section, which click's own help does not have."""
    if rows := list(arguments):
        with formatter.section("Arguments"):
            formatter.write_dl(rows)


# --- from an operation to a command ---------------------------------------------------------------


def add_commands(
    root: click.Group, operations: Iterable[Operation], custom: Mapping[str, click.Command]
) -> None:
    """Add a command for every operation that declares one; `custom` replaces those of these operation names."""
    # Shorter command lines first: `outbox` exists before `outbox retry` turns it into a group.
    for operation in sorted(operations, key=lambda op: (len(op.command), op.command)):
        if operation.command:
            _add_command(
                root, operation.command, custom.get(operation.name) or command_of(operation)
            )


def _add_command(root: click.Group, parts: Sequence[str], command: click.Command) -> None:
    *path, command.name = parts
    group = root
    for word in path:
        group = _group(group, word)
    group.add_command(command)


def _group(parent: click.Group, word: str) -> click.Group:
    """The group named `word`; an existing command of that name becomes the group's own command."""
    found = parent.commands.get(word)
    if isinstance(found, click.Group):
        return found
    if found is None:
        group: click.Group = CommandGroup(word, help=_GROUP_HELP.get(word, f"Commands of {word}."))
    else:
        group = CommandGroup(
            word, params=found.params, callback=_unless_sub(found.callback), help=found.help,
            short_help=found.short_help, invoke_without_command=True,
        )  # fmt: skip
    parent.add_command(group)
    return group


def _unless_sub(callback: Callable[..., Any] | None) -> Callable[..., None]:
    def run(**values: Any) -> None:
        if callback is not None and click.get_current_context().invoked_subcommand is None:
            callback(**values)

    return run


def command_of(
    operation: Operation, then: Then | None = None, extra: Iterable[click.Option] = ()
) -> Command:
    """The command that calls this operation; `then` shows the reply (default: `Invocation.show`)."""
    fields = msgspec.structs.fields(operation.request)
    params: list[click.Parameter] = [*map(_param, fields), *extra]
    if operation.confirm:
        params.append(
            click.Option(["--yes", "-y"], is_flag=True, help="Do not ask for confirmation.")
        )
    params.append(json_option(lines=operation.streaming))
    command = Command(
        operation.name,
        params=params,
        callback=lambda **values: _run(operation, values, then),
        help=_help(operation),
        short_help=operation.help,
        # So that a negative number is an argument and not an option.
        context_settings={"ignore_unknown_options": _takes_numbers(fields)},
    )
    command.arguments = tuple(
        (field.name.upper(), _description(field.type) + _FROM_STDIN.get(field.name, ""))
        for field in fields
        if field.required
    )
    return command


def _takes_numbers(fields: Iterable[msgspec.structs.FieldInfo]) -> bool:
    return any(field.required and _unwrapped(field.type)[0] in (int, float) for field in fields)


def _help(operation: Operation) -> str:
    return (
        f"{operation.description}\n\n{operation.confirm}"
        if operation.confirm
        else operation.description
    )


def json_option(*, lines: bool = False) -> click.Option:
    """The option `--json` of every command."""
    return click.Option(
        ["--json"],
        is_flag=True,
        expose_value=False,
        help=LINES_OPTION if lines else JSON_OPTION,
        callback=_set_json,
        is_eager=True,
    )


def config_option() -> click.Option:
    """The option `--config`, for commands that read the installation themselves."""
    return click.Option(
        ["--config", "file"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The daemon's configuration [default: $WAD_CONFIG, else /etc/wad/wad.toml].",
    )


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().obj.json = True


def _param(field: msgspec.structs.FieldInfo) -> click.Parameter:
    kind, metas = _unwrapped(field.type)
    several = typing.get_origin(kind) is tuple
    if several:
        kind = typing.get_args(kind)[0]
    if field.required:
        count = -1 if several else 1
        return click.Argument(
            [field.name], type=_click_type(kind, metas), nargs=count, required=True
        )
    flag = f"--{field.name.replace('_', '-')}"
    description = _description(field.type)
    sentence = f"{description[:1].upper()}{description[1:]}."
    if kind is bool:
        return click.Option([flag, field.name], is_flag=True, default=field.default, help=sentence)
    default = str(field.default) if isinstance(field.default, StrEnum) else field.default
    return click.Option(
        [flag, field.name],
        type=_click_type(kind, metas),
        default=default,
        show_default=default not in ("", 0, None, ()),
        multiple=several,
        help=sentence,
    )


def _unwrapped(kind: Any) -> tuple[type, list[msgspec.Meta]]:
    """The type of a field without Annotated and None, and its Meta annotations."""
    metas: list[msgspec.Meta] = []
    while (origin := typing.get_origin(kind)) is not None:
        arguments = typing.get_args(kind)
        if origin is Annotated:
            metas += [meta for meta in arguments[1:] if isinstance(meta, msgspec.Meta)]
        elif type(None) not in arguments:
            break
        kind = next(argument for argument in arguments if argument is not type(None))
    return kind, metas


def _description(kind: Any) -> str:
    return next((meta.description for meta in _unwrapped(kind)[1] if meta.description), "")


def _click_type(kind: type, metas: list[msgspec.Meta]) -> click.ParamType[Any]:
    if issubclass(kind, StrEnum):
        return click.Choice(list(map(str, kind)))
    try:
        found = _TYPES[kind]
    except KeyError:
        raise TypeError(f"wadctl has no option type for a field of {kind}") from None
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    if (low is None and high is None) or kind is str:
        return found
    return click.IntRange(low, high) if kind is int else click.FloatRange(low, high)  # type: ignore[arg-type]


# --- running a command -----------------------------------------------------------------------------


def _run(operation: Operation, values: dict[str, Any], then: Then | None) -> None:
    invocation = current_invocation()
    if operation.confirm and not values["yes"]:
        confirm(operation, values)
    values = read_text(values)
    params = params_of(operation, values)
    if then is not None and "client_id" in values:
        params.pop("wait", None)  # `then` follows the message, and shows its progress
    with invocation.client() as client:
        if operation.streaming:
            for item in client.stream(operation.name, params):
                invocation.show(operation.name, item)
            return
        reply = client.call(operation.name, params, wait=float(params.get("wait", 0)))
    if then is not None:
        then(invocation, values, reply)
        return
    try:
        invocation.show(operation.name, reply)
        sys.stdout.flush()
    except OSError:  # the output is full or closed; the caller reports that
        if operation.access is not Access.READ:
            command = " ".join(operation.command) or operation.name
            click.echo(f"wadctl: `{command}` was done; only its output cannot be written", err=True)
        raise


def params_of(operation: Operation, values: dict[str, Any]) -> dict[str, Any]:
    """The parameters that differ from the defaults: an older daemon may not know a newer field."""
    fields = msgspec.structs.fields(operation.request)
    return {
        field.name: values[field.name]
        for field in fields
        if field.required or values[field.name] != field.default
    }


def _command_line(operation: Operation, values: dict[str, Any]) -> list[str]:
    """The arguments and options as a user would type them; options with default values are left out."""
    fields = {field.name: field for field in msgspec.structs.fields(operation.request)}
    parts: list[str] = []
    for name, value in values.items():
        field = fields.get(name)
        if name == "yes" or not value or (field and not field.required and value == field.default):
            continue
        if field and not field.required:
            parts.append(f"--{name.replace('_', '-')}")
        if value is not True:
            parts.append(str(value))
    return parts


def confirm(operation: Operation, values: dict[str, Any]) -> None:
    """Ask the user to confirm.  Raises BadInput when stdin is not a terminal, Exit when the user declines."""
    what = shlex.join([*operation.command, *_command_line(operation, values)])
    if not sys.stdin.isatty():
        raise BadInput(
            f"{what} needs confirmation and stdin is not a terminal",
            hint=f"wadctl {what} --yes",
        )
    click.echo(f"{operation.help}\n{operation.confirm}", err=True)
    if not click.confirm(f"{what}?", err=True):
        raise click.exceptions.Exit(1)
