"""Translate one stored row again: `python -m wad.worker.retranslate KIND < RAW > EVENT` (see retranslation.py)."""

from __future__ import annotations

import logging
import os
import sys
import time

from wad.core.errors import EngineFailure
from wad.engine.retranslation import REFUSED
from wad.worker.confinement.rules import Needs, code_paths, confine
from wad.worker.message_secrets import MessageSecrets
from wad.worker.translation import STORED_EVENTS, OpeningKeys, translated


def _cannot_decrypt(_raw: bytes) -> tuple[bytes, ...]:
    raise EngineFailure("a vote can be decrypted only when it arrives")


def main() -> None:
    """The entry point of the process."""
    # The input is a stranger's, and could not be translated before: the process needs nothing but code.
    confine(Needs(None, None, code_paths(os.environ), os.environ, network=False))
    logging.disable()
    names = {name.lower(): name for name in STORED_EVENTS}
    name = names.get(sys.argv[1])
    if name is None:
        sys.stderr.write(f"no translator for {sys.argv[1]!r}")
        sys.exit(REFUSED)
    keys = OpeningKeys(_cannot_decrypt, MessageSecrets())
    found = translated(name, sys.stdin.buffer.read(), keys, int(time.time() * 1000))
    if reasons := [row.reason for row in found.rows if row.reason]:
        sys.stderr.write(reasons[0])
        sys.exit(REFUSED)
    for row in found.rows:
        sys.stdout.buffer.write(row.event or b"")


if __name__ == "__main__":
    main()
