"""A kept row is translated again, with today's code.

The daemon never loads the library's classes, so it asks a short process (retranslate.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from wad.core.errors import BadInput, EngineFailure

_TIMEOUT: Final = 60.0
REFUSED: Final = 1
"""The exit code that says: it still cannot be translated, for the reason on stderr."""


def retranslated(kind: str, raw: bytes, environ: Mapping[str, str]) -> bytes | None:
    """The encoded event of a row; None where it carries nothing to keep.

    Raises BadInput (it cannot be translated, and why), EngineFailure.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "wad.worker.retranslate", kind],
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
    words = done.stderr.decode(errors="replace").strip()[-300:]
    if done.returncode == REFUSED:
        raise BadInput(words)
    raise EngineFailure(f"the row was not translated: {words or done.returncode}")
