"""The command `wad`: it runs the daemon and inspects its configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from wad import __version__
from wad.api.http_process.child import child_options, start_http
from wad.config import LoadedConfig, examine, load
from wad.config.fresh import HINT, faults, is_new
from wad.core.errors import BadConfig, BadInput, WadError
from wad.lib.module_command import module_command
from wad.lib.signals import Signals
from wad.lib.streams import run as run_command
from wad.state.ownership import check_owner
from wad.systemd.failed_start import announced
from wad.systemd.systemctl import booted

_ENDS = ("--help", "-h", "--version")
_VALUE_COLUMNS = 30
"""The source of a longer value is further right, so that the others fit into 80 columns."""


def _complain(error: Exception) -> None:
    """Print an error as one sentence, with its hint."""
    known = isinstance(error, WadError)
    click.echo(f"wad: {error}" if known else f"wad: {type(error).__name__}: {error}", err=True)
    if isinstance(error, WadError) and error.hint:
        click.echo(f"hint: {error.hint}", err=True)


class _Wad(click.Group):
    """The command group, with `run` as its default; a WadError is printed and sets the exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in _ENDS):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            _announce(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WadError as error:
            _complain(error)
            ctx.exit(error.exit_code)
        except click.UsageError as error:
            _announce(error)
            raise


def _announce(error: click.UsageError) -> None:
    """Report a usage error to systemd, if systemd started this process."""
    with suppress(BadInput), announced(os.environ, os.getpid(), lambda _: None):
        raise BadInput(f"ExecStart= of the unit: {error.format_message()}")


_config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration file.  Default: $WAD_CONFIG or /etc/wad/wad.toml.",
)


def _absolute(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    # A path on the command line is relative to the working directory; the daemon uses absolute paths only.
    return path.absolute() if path else None


def _override_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the settings that have an option, which overrides every other source."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--http-port", type=int, metavar="PORT", help="TCP port; 0 for any free one."),
        click.option("--socket", type=path, callback=_absolute, help="The control socket."),
        click.option("--state-dir", type=path, callback=_absolute, help="The state directory."),
        click.option("--engine", metavar="neonize|simulator", help="The library for WhatsApp."),
    ):
        command = option(command)
    return command


@click.group(cls=_Wad, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wad", message="%(prog)s %(version)s")
def cli() -> None:
    """The daemon that owns WhatsApp accounts.  The default command is run; wadctl controls the daemon."""


@cli.command()
@_config_option
@_override_options
@click.pass_context
def run(
    ctx: click.Context,
    file: Path | None,
    engine: str | None,
    state_dir: Path | None,
    socket: Path | None,
    http_port: int | None,
) -> None:
    """Run the daemon in the foreground (the default command)."""
    given = {
        "engine.kind": engine,
        "state.dir": state_dir,
        "control.socket": socket,
        "http.port": http_port,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    signals = Signals()
    try:
        with announced(os.environ, os.getpid(), _complain) as supervisor:
            loaded = load(file, os.environ, overrides)
            if (found := faults(loaded.config)) and is_new(loaded.config):
                raise BadConfig("; ".join(found), hint=HINT)
            state = loaded.config.state
            check_owner((state.dir, state.sessions), os.geteuid(), _restart_of)
            options = child_options(loaded.config, supervisor.start)
            child = None if options is None else start_http(options)
            try:
                # Imported here, so that an error in the configuration is reported before the heavy imports.
                from wad.daemon import run as run_daemon

                code = run_daemon(loaded, supervisor, signals, child)
            finally:
                if child is not None:
                    child.kill()
    except WadError as error:
        ctx.exit(error.exit_code)
    ctx.exit(code)


def _restart_of(user: str) -> str | None:
    """The command that restarts the service, if the service runs as this user."""
    from wad.audit.doctor import service

    unit = service.unit_of(service.show()) if service.booted() else None
    return "sudo systemctl restart wad" if unit is not None and unit.user == user else None


@cli.command("http", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def http(words: tuple[str, ...]) -> None:
    """Run the HTTP process, which systemd or the daemon starts: wad http --help."""
    # A separate, smaller program: it does not use the configuration, which this module imports.
    os.execv(sys.executable, module_command("wad.http", *words))


@cli.group()
def config() -> None:
    """Inspect the configuration, without the daemon."""


@config.command()
@_config_option
@click.option("--new", is_flag=True, help="Apply the rules for a new installation.")
@click.pass_context
def check(ctx: click.Context, file: Path | None, new: bool) -> None:
    """List every problem of the configuration, one per line; exit 6 if there is one.

    A token that can be guessed is an error in a new installation, whose state directory contains no store and no
    account; in an existing installation it is a warning.
    """
    loaded, problems = examine(file, os.environ)
    if loaded is not None and (new or is_new(loaded.config)):
        problems += [f"{problem}: {HINT}" for problem in faults(loaded.config)]
    for problem in problems:
        click.echo(problem, err=True)
    if loaded is None or problems:
        ctx.exit(BadConfig.exit_code)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if number := len(loaded.warnings):
        click.echo(f"the configuration is valid, with {number} warning{'s' if number > 1 else ''}")
    else:
        click.echo("the configuration is valid")


@config.command()
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, by key.")
def show(file: Path | None, as_json: bool) -> None:
    """Show every value and its source; for a secret only whether it is set.

    The values are those of a process that is started here; `wadctl config` shows those of the running daemon.
    """
    loaded = load(file, os.environ)
    if file is None and booted() and "INVOCATION_ID" not in os.environ:
        click.echo(
            "these are the settings of a process that is started here; wad.service has an environment and credentials"
            " of its own: `wadctl config` shows its settings",
            err=True,
        )
    click.echo(_as_json(loaded) if as_json else _as_text(loaded))


@cli.group()
def firestore() -> None:
    """Check Firestore as the daemon would use it, without the daemon."""


@firestore.command("check")
@_config_option
@click.pass_context
def check_firestore(ctx: click.Context, file: Path | None) -> None:
    """Check whether Firestore is usable; print a verdict and a sentence: FIRESTORE_OK, or the error.

    FIRESTORE_MISSING: there are no credentials.  FIRESTORE_MALFORMED: the credentials are invalid.  FIRESTORE_DENIED:
    they have no read permission.  FIRESTORE_UNREACHABLE: no response.  Nothing is written.
    """
    import asyncio

    loaded = load(file, os.environ)
    from wad.store.firestore.client.check import check as check_access

    finding = asyncio.run(
        check_access(loaded.config.store, loaded.config.lease.document, os.environ)
    )
    click.echo(f"{finding.verdict}: {finding.why}")
    ctx.exit(finding.verdict.exit_code)


def _as_text(loaded: LoadedConfig) -> str:
    rows = [(key, origin.shown, origin.source) for key, origin in loaded.origins.items()]
    keys = max(len(row[0]) for row in rows)
    values = min(_VALUE_COLUMNS, max(len(row[1]) for row in rows))
    return "\n".join(f"{key:{keys}}  {value:{values}}  {source}" for key, value, source in rows)


def _as_json(loaded: LoadedConfig) -> str:
    import json

    document = {
        key: {"value": origin.json, "source": origin.source}
        for key, origin in loaded.origins.items()
    }
    return json.dumps(document, indent=2)


def main() -> None:
    """The entry point of the command `wad`."""
    run_command("wad", lambda: cli(prog_name="wad"))


if __name__ == "__main__":
    main()
