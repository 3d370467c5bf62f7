"""Generates the manual pages from the commands and the declared settings."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

import wad
from wad.__main__ import cli
from wad.config import SETTINGS
from wad.config.documents import example, limits
from wad.config.settings import SECTIONS
from wadctl.__main__ import root


def pages() -> dict[str, str]:
    """Each page by its file name."""
    return {
        "wad.8": "".join(_wad()),
        "wadctl.1": "".join(_wadctl()),
        "wad.toml.5": "".join(_toml()),
    }


def escaped(text: str) -> str:
    """Text escaped for roff: no line is a request, and hyphens stay hyphens."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n"))


def _context(command: click.Command, name: str) -> click.Context:
    """The context of a command under this name; click caches the first help option that is requested."""
    settings = {"terminal_width": 100, **command.context_settings}
    return click.Context(command, info_name=name, **settings)


def _title(name: str, section: int, what: str) -> str:
    version = f"wad {wad.__version__}"
    return (
        f'.TH {escaped(name).upper()} {section} "" "{version}" "wad"\n'
        f".SH NAME\n{escaped(name)} \\- {escaped(what)}\n"
    )


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for param in command.get_params(context):
        if (record := param.get_help_record(context)) is not None:
            flags, help_text = record
            yield f".TP\n.B {escaped(flags)}\n{escaped(_joined(help_text))}\n"


def _joined(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _paragraphs(text: str) -> str:
    parts = [_joined(part) for part in re.split(r"\n\s*\n", text.replace("\b", ""))]
    return "\n.PP\n".join(escaped(part) for part in parts if part) + "\n"


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    """The subcommands with their options, in the order of `--help`."""
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        below = command.commands[name]
        inner = click.Context(below, context, info_name=name)
        usage = " ".join([inner.command_path, *below.collect_usage_pieces(inner)])
        yield f".SS {escaped(usage)}\n{_paragraphs(below.help or '')}"
        for label, meaning in getattr(below, "arguments", ()):
            yield f".TP\n.I {escaped(label)}\n{escaped(meaning)}\n"
        yield from _options(below, inner)
        yield from _commands(below, inner)


def _wad() -> Iterator[str]:
    context = _context(cli, "wad")
    yield _title("wad", 8, "daemon that owns WhatsApp accounts")
    yield ".SH SYNOPSIS\n.B wad\n[COMMAND] [OPTIONS]\n"
    yield f".SH DESCRIPTION\n{_paragraphs(_DESCRIPTION)}"
    yield ".SH COMMANDS\n"
    yield from _commands(cli, context)
    yield f".SH SIGNALS\n{_paragraphs(_SIGNALS)}"
    yield ".SH FILES\n" + _definitions(_FILES)
    yield _also("wadctl (1)", "wad.toml (5)", "systemctl (1)", "journalctl (1)")


def _wadctl() -> Iterator[str]:
    context = _context(root, "wadctl")
    yield _title("wadctl", 1, "inspect and control the WhatsApp daemon wad")
    yield ".SH SYNOPSIS\n.B wadctl\n[OPTIONS] COMMAND [ARGUMENTS]\n"
    yield f".SH DESCRIPTION\n{_paragraphs(_CONTROL)}"
    yield ".SH OPTIONS\n"
    yield from _options(root, context)
    yield ".SH COMMANDS\n"
    yield from _commands(root, context)
    yield f".SH EXIT STATUS\n{_paragraphs(_STATUS)}"
    yield _also("wad (8)", "wad.toml (5)")


def _toml() -> Iterator[str]:
    yield _title("wad.toml", 5, "configuration of the WhatsApp daemon wad")
    yield ".SH SYNOPSIS\n.I /etc/wad/wad.toml\n"
    yield f".SH DESCRIPTION\n{_paragraphs(_CONFIGURATION)}"
    for section, declared in SECTIONS.items():
        yield f".SH [{escaped(section)}]\n{_paragraphs(declared.__doc__ or '')}"
        for row in SETTINGS.values():
            if not row.key.startswith(f"{section}."):
                continue
            name = row.key.partition(".")[2]
            also = [f"Environment: {', '.join(row.env)}."]
            also += [f"Credential: {row.credential}."] if row.credential else []
            also += ["Can be reloaded."] if row.reload else []
            text = _joined(f"{row.doc}{limits(row)} {' '.join(also)}")
            yield f".TP\n.B {escaped(name)} = {escaped(example(row))}\n{escaped(text)}\n"
    yield _also("wad (8)", "wadctl (1)")


def _definitions(rows: dict[str, str]) -> str:
    return "".join(f".TP\n.I {escaped(key)}\n{escaped(text)}\n" for key, text in rows.items())


def _also(*names: str) -> str:
    return ".SH SEE ALSO\n" + ",\n".join(f".BR {escaped(name)}" for name in names) + "\n"


_DESCRIPTION = """\
wad keeps the sessions of WhatsApp accounts, stores every message that they receive, sends what is queued, and makes
sure that only one machine is active at a time. The package runs it as the unit wad.service; wadctl controls it, and
wad-http.service serves HTTP for it.

Without a command it runs in the foreground."""
_SIGNALS = """\
SIGINT and SIGTERM stop it gracefully; a second one kills the workers; a third one ends it at once. SIGHUP reloads the
configuration."""
_FILES = {
    "/etc/wad/wad.toml": "The configuration; every setting has a default.",
    "/var/lib/wad": "The state: messages, sessions, the lease.",
    "/run/wad/control.sock": "The control socket, for root, the daemon's user and members of the group wad.",
    "/run/wad/http.sock": "The daemon's socket for wad-http.service only.",
    "/usr/lib/wad": "The program and its libraries, for every supported version of Python.",
}
_CONTROL = """\
wadctl controls the daemon through its Unix socket. Root, the daemon's user and members of the group wad may use it
(adduser YOU wad).

With --json every command prints only JSON on stdout; a failure prints one document with "ok": false."""
_STATUS = """\
0 done, 1 declined, 2 usage, 3 no daemon answers, 4 not found, 5 not possible now, 6 bad configuration, 7 not allowed,
8 try again later, 9 WhatsApp, its library or a damaged file, 74 the output cannot be written, 130 ended by Ctrl-C,
141 the reader of the output went away."""
_CONFIGURATION = """\
TOML. wad needs no configuration to start: every setting has a default. The value of a setting is the last one of: its
default, this file, the environment, a systemd credential, the command line.

wad config check finds mistakes, wad config show prints every value and its source."""
