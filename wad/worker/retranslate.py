"""Translate one kept row again: `python -m wad.worker.retranslate KIND < RAW > EVENT` (see retranslation.py)."""

from __future__ import annotations

import logging
import os
import sys
import time

from wad.core.errors import EngineFailure
from wad.engine.retranslation import REFUSED
from wad.worker.confinement.rules import Wants, code_paths, confine
from wad.worker.translation import KEPT, translated


def _sealed(_raw: bytes) -> tuple[bytes, ...]:
    raise EngineFailure("votes are opened when they come")


def main() -> None:
    """The process's entry."""
    # What is translated is a stranger's, and was not understood once: nothing is needed but code.
    confine(Wants(None, None, code_paths(os.environ), os.environ, network=False))
    logging.disable()
    names = {name.lower(): name for name in KEPT}
    name = names.get(sys.argv[1])
    if name is None:
        sys.stderr.write(f"nothing translates a {sys.argv[1]!r}")
        sys.exit(REFUSED)
    found = translated(name, sys.stdin.buffer.read(), _sealed, int(time.time() * 1000))
    if reasons := [row.reason for row in found.rows if row.reason]:
        sys.stderr.write(reasons[0])
        sys.exit(REFUSED)
    for row in found.rows:
        sys.stdout.buffer.write(row.event or b"")


if __name__ == "__main__":
    main()
