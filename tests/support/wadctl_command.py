"""wadctl, run in this process as in a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result

from wadctl.__main__ import root


def wadctl(env: Mapping[str, str | None], *arguments: str, stdin: str = "") -> Result:
    """The result of a command.  `env` changes the environment; None removes a variable."""
    env = {"NO_COLOR": None, "COLUMNS": None, **env}
    return CliRunner().invoke(root, list(arguments), input=stdin, env=env, prog_name="wadctl")


def wadctl_json(env: Mapping[str, str | None], *arguments: str, code: int = 0) -> Any:
    """The JSON document of a command that exits with this code."""
    result = wadctl(env, *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)
