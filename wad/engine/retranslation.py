"""Retranslation of a stored row, with the current code.

The daemon never loads the library's classes, so it runs a short process (retranslate.py).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Final

from wad.core.errors import BadInput, EngineFailure
from wad.lib.module_command import module_command

_TIMEOUT: Final = 60.0
REFUSED: Final = 1
"""The exit code for a row that still cannot be translated; the reason is on stderr."""


def retranslated(kind: str, raw: bytes, environ: Mapping[str, str]) -> bytes | None:
    """The encoded event of a row; None if there is nothing to store.

    Raises BadInput (it cannot be translated, and why), EngineFailure.
    """
    try:
        done = subprocess.run(
            module_command("wad.worker.retranslate", kind),
            env=dict(environ),
            input=raw,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineFailure(f"the row was not translated: {error}") from error
    if done.returncode == 0:
        return done.stdout or None
    text = done.stderr.decode(errors="replace").strip()[-300:]
    if done.returncode == REFUSED:
        raise BadInput(text)
    raise EngineFailure(f"the row was not translated: {text or done.returncode}")
