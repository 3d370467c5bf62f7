"""Commands made from the table of operations: what it declares appears here by itself.

A field without a default is an argument, one with a default an option; of a field of several texts there may be
several.  Help comes from docstrings and Meta.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import click
import msgspec

from wad.api.operation import Operation
from wad.core.errors import BadInput
from wadctl.session import Invocation, session

_TYPES: Final[dict[type, click.ParamType[Any]]] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
}
Then = Callable[[Invocation, dict[str, Any], Any], None]
"""What to do with a reply, given the options of the command."""

JSON_OPTION: Final = "Print one JSON document instead of text."
LINES_OPTION: Final = "Print JSON, one document a line, instead of text."


class Command(click.Command):
    """A command that also explains its arguments."""

    arguments: tuple[tuple[str, str], ...] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The arguments, then the options."""
        explain(self.arguments, formatter)
        super().format_options(ctx, formatter)


class CommandGroup(click.Group):
    """Commands that share a first word; alone it may be a command itself."""

    arguments: tuple[tuple[str, str], ...] = ()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The arguments, then the options, then the commands."""
        explain(self.arguments, formatter)
        super().format_options(ctx, formatter)


def explain(arguments: Iterable[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    """The section of a help text that click leaves out."""
    if rows := list(arguments):
        with formatter.section("Arguments"):
            formatter.write_dl(rows)


# --- from an operation to a command ---------------------------------------------------------------


def grow(
    root: click.Group, operations: Iterable[Operation], made: Mapping[str, click.Command]
) -> None:
    """Add a command for every operation that has words for one; `made` by hand for these names of operations."""
    # Shorter ones first: `outbox` is there before `outbox retry` makes a group of it.
    for operation in sorted(operations, key=lambda found: (len(found.command), found.command)):
        if operation.command:
            _plant(root, operation.command, made.get(operation.name) or command_of(operation))


def _plant(root: click.Group, words: Sequence[str], command: click.Command) -> None:
    *path, command.name = words
    group = root
    for word in path:
        group = _group(group, word)
    group.add_command(command)


def _group(parent: click.Group, word: str) -> click.Group:
    """The group of this word; a command that stands there already becomes what the bare group does."""
    found = parent.commands.get(word)
    if isinstance(found, click.Group):
        return found
    if found is None:
        group: click.Group = CommandGroup(word, help=f"Commands for {word}s.")
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
    """The command that asks this operation; `then` shows the reply (default: as `render` does)."""
    fields = msgspec.structs.fields(operation.request)
    params: list[click.Parameter] = [*map(_param, fields), *extra]
    if operation.confirm:
        params.append(click.Option(["--yes", "-y"], is_flag=True, help="Do not ask."))
    params.append(json_option(lines=operation.streaming))
    command = Command(
        operation.name,
        params=params,
        callback=lambda **values: _run(operation, values, then),
        help=_help(operation),
        short_help=operation.help,
        # A number below zero is no option.
        context_settings={"ignore_unknown_options": _takes_numbers(fields)},
    )
    command.arguments = tuple(
        (field.name.upper(), _meaning(field.type)) for field in fields if field.required
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
    """`--json`, which every command has."""
    return click.Option(
        ["--json"],
        is_flag=True,
        expose_value=False,
        help=LINES_OPTION if lines else JSON_OPTION,
        callback=_set_json,
        is_eager=True,
    )


def config_option() -> click.Option:
    """`--config`, for what looks into an installation itself."""
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
    meaning = _meaning(field.type)
    sentence = f"{meaning[:1].upper()}{meaning[1:]}."
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
    """The bare type of a field (of an optional one: what it may be) and what Meta says of it."""
    metas: list[msgspec.Meta] = []
    while (origin := typing.get_origin(kind)) is not None:
        arguments = typing.get_args(kind)
        if origin is Annotated:
            metas += [meta for meta in arguments[1:] if isinstance(meta, msgspec.Meta)]
        elif type(None) not in arguments:
            break
        kind = next(argument for argument in arguments if argument is not type(None))
    return kind, metas


def _meaning(kind: Any) -> str:
    return next((meta.description for meta in _unwrapped(kind)[1] if meta.description), "")


def _click_type(kind: type, metas: list[msgspec.Meta]) -> click.ParamType[Any]:
    if issubclass(kind, StrEnum):
        return click.Choice(list(map(str, kind)))
    try:
        found = _TYPES[kind]
    except KeyError:
        raise TypeError(f"wadctl has no option for a field of {kind}") from None
    low = next((meta.ge for meta in metas if meta.ge is not None), None)
    high = next((meta.le for meta in metas if meta.le is not None), None)
    if (low is None and high is None) or kind is str:
        return found
    return click.IntRange(low, high) if kind is int else click.FloatRange(low, high)  # type: ignore[arg-type]


# --- what a command does ----------------------------------------------------------------------------


def _run(operation: Operation, values: dict[str, Any], then: Then | None) -> None:
    now = session()
    if operation.confirm and not values["yes"]:
        ask(operation, values)
    params = given(operation, values)
    with now.client() as client:
        if operation.streaming:
            for item in client.stream(operation.name, params):
                now.show(operation.name, item)
            return
        reply = client.call(operation.name, params, wait=float(params.get("wait", 0)))
    if then is not None:
        then(now, values, reply)
    else:
        now.show(operation.name, reply)


def given(operation: Operation, values: dict[str, Any]) -> dict[str, Any]:
    """What differs from the defaults: an older daemon may not know a newer field."""
    fields = msgspec.structs.fields(operation.request)
    return {
        field.name: values[field.name]
        for field in fields
        if field.required or values[field.name] != field.default
    }


def _words(operation: Operation, values: dict[str, Any]) -> list[str]:
    """What a person types behind the command; options that are as always are left out."""
    fields = {field.name: field for field in msgspec.structs.fields(operation.request)}
    words: list[str] = []
    for name, value in values.items():
        field = fields.get(name)
        if name == "yes" or not value or (field and not field.required and value == field.default):
            continue
        if field and not field.required:
            words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return words


def ask(operation: Operation, values: dict[str, Any]) -> None:
    """Make sure that a person means it.  Raises BadInput where nobody can be asked."""
    what = " ".join([*operation.command, *_words(operation, values)])
    if not sys.stdin.isatty():
        raise BadInput(
            f"{what}: this needs a yes, and there is no terminal to ask on",
            hint=f"wadctl {what} --yes",
        )
    click.echo(f"{operation.help}\n{operation.confirm}", err=True)
    if not click.confirm(f"{what}?", err=True):
        raise click.exceptions.Exit(1)
