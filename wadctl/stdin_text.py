"""A text that is read from standard input, where the argument is `-`."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from wad.core.errors import BadInput, TooLong

FROM_STDIN: Final = "-"
_LONGEST: Final = 1 << 20  # bytes that are read; WhatsApp's own limit is lower


def read_text(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a command, its text read from standard input if it is `-`.  Raises BadInput, TooLong."""
    if values.get("text") != FROM_STDIN:
        return values
    if sys.stdin.isatty():
        click.echo("Type the text; Ctrl-D on a new line ends it.", err=True)
    try:
        data = sys.stdin.buffer.read(_LONGEST + 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read the text from standard input: {error}") from error
    if len(data) > _LONGEST:
        raise TooLong(f"the text on standard input is longer than {_LONGEST} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadInput("the text on standard input is not UTF-8") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise BadInput("standard input has no text", hint="printf '%s' 'hello' | wadctl send ... -")
    return values | {"text": text}
