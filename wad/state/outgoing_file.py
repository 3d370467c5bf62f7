"""Reading of an outgoing file by its hash, for the worker; `wad.state.outgoing_files` manages the directory.

It is a module of its own because a worker has no event loop and must not import one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from wad.core.errors import Damaged, NotFound, Unavailable


def read(root: Path, sha256: str, size: int) -> bytes:
    """Read the whole file and verify its size and hash; blocks.  Raises NotFound, Damaged, Unavailable."""
    path = path_of(root, sha256)
    try:
        with path.open("rb") as file:
            data = file.read(size + 1)
    except FileNotFoundError:
        raise missing(sha256) from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged(f"the file {path} was changed or is damaged", hint="send the file again")
    return data


def head(root: Path, sha256: str, size: int) -> bytes:
    """The first `size` bytes of a file; blocks.  Raises NotFound, Unavailable."""
    path = path_of(root, sha256)
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise missing(sha256) from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error


def path_of(root: Path, sha256: str) -> Path:
    """The path of the file with this hash.  Raises NotFound if it is not a valid hash."""
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise missing(sha256)
    return root / sha256


def missing(sha256: str) -> NotFound:
    """The error for a file that does not exist."""
    return NotFound(
        f"the file {sha256[:64]!r} was never uploaded, or was deleted because it was no longer needed",
        hint="upload it first: wadctl send-file",
    )
