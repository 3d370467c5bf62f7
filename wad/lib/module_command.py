"""The command line of a process that runs a module of this installation."""

from __future__ import annotations

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line: this interpreter, the module and its arguments.

    -P: nothing is imported from the current directory, in which another user may have put a `wad`.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
