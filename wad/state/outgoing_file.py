"""A file to send, read back by its hash: what a worker needs of the directory that `wad.state.outgoing_files` keeps.

Apart from it, since a worker has no event loop and should not pay for one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from wad.core.errors import Damaged, NotFound, Unavailable


def read(root: Path, sha256: str, size: int) -> bytes:
    """The whole file, if it is the one that it should be; blocks.  Raises NotFound, Damaged, Unavailable."""
    path = path_of(root, sha256)
    try:
        with path.open("rb") as file:
            data = file.read(size + 1)
    except FileNotFoundError:
        raise missing(sha256) from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged(f"the file {path} is not what was put there", hint="send it anew")
    return data


def path_of(root: Path, sha256: str) -> Path:
    """Where a file of this hash lies.  Raises NotFound for what is no hash."""
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise missing(sha256)
    return root / sha256


def missing(sha256: str) -> NotFound:
    """The error that says that it is not there."""
    return NotFound(
        f"no file {sha256[:64]!r} has arrived, or it was not needed for so long that it went",
        hint="wadctl send-file brings it here first",
    )
