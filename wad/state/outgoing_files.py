"""The directory of outgoing files: uploads in chunks, storage by hash, deletion when no message needs them.

    MEDIA/
      SHA256           a complete file, synced before it got this name
      .incoming/ID     an upload in progress; deleted at a restart

A file is written in chunks, hashed meanwhile, and renamed only when it is complete; each reader hashes it again.  Its
contents are never parsed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wad.core.errors import BadInput, Conflict, NotFound, Unavailable
from wad.core.outgoing import PIECE_LIMIT, AttachmentKind
from wad.core.outgoing_rules import check_size
from wad.lib.clock import Clock
from wad.lib.files import sync_directory, unwritable
from wad.state import outgoing_file
from wad.state.outgoing_file import missing, path_of

_AT_ONCE: Final = 16  # uploads at the same time
_IDLE: Final = 600.0  # seconds without a chunk after which an upload may be dropped for a new one


@dataclass(eq=False)
class _Upload:
    """An upload in progress."""

    path: Path
    size: int
    touched: float
    received: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """The progress of an upload in bytes; `sha256` once it is complete."""

    upload: str
    received: int
    sha256: str = ""


class OutgoingFiles:
    """The directory of outgoing files.  `draw` returns unguessable names for uploads."""

    def __init__(self, root: Path, clock: Clock, draw: Callable[[], str]) -> None:
        self.root = root
        self._incoming = root / ".incoming"
        self._clock = clock
        self._draw = draw
        self._lock = threading.Lock()
        self._uploads: dict[str, _Upload] = {}

    async def open(self) -> None:
        """Create the directories, and delete unfinished uploads of an earlier process.  Raises StateUnwritable."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        try:
            self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self._incoming.iterdir():
                left.unlink()
        except OSError as error:
            raise unwritable(self.root, error) from error

    # --- in ---------------------------------------------------------------------------------------

    def begin(self, kind: AttachmentKind, size: int) -> str:
        """Begin an upload of `size` bytes; return its name.  Raises BadInput, TooLong, Unavailable."""
        check_size(kind, size)
        upload = self._draw()
        with self._lock:
            if len(self._uploads) >= _AT_ONCE:
                self._drop_idle()
            self._uploads[upload] = _Upload(self._incoming / upload, size, self._clock.monotonic())
        return upload

    def _drop_idle(self) -> None:
        name = min(self._uploads, key=lambda name: self._uploads[name].touched)
        if self._clock.monotonic() - self._uploads[name].touched < _IDLE:
            raise Unavailable(f"{_AT_ONCE} uploads are in progress already", hint="try again later")
        self._uploads.pop(name).path.unlink(missing_ok=True)

    async def put(self, upload: str, offset: int, data: bytes) -> UploadProgress:
        """Store the next chunk; the last one completes the file.

        Raises NotFound (no such upload), Conflict (not the next chunk), BadInput (an empty or too long chunk), and
        StateUnwritable, after which the upload is deleted.
        """
        return await asyncio.to_thread(self._put, upload, offset, data)

    def _put(self, upload: str, offset: int, data: bytes) -> UploadProgress:
        with self._lock:
            found = self._uploads.get(upload)
        if found is None:
            raise NotFound(f"the upload {upload!r} does not exist", hint="begin a new upload")
        with found.lock:
            self._check_piece(found, offset, data)
            try:
                self._append(found, data)
                if found.received < found.size:
                    return UploadProgress(upload, found.received)
                return UploadProgress(upload, found.received, self._complete(upload, found))
            except OSError as error:
                self._forget(upload)
                found.path.unlink(missing_ok=True)
                raise unwritable(self.root, error) from error

    def _check_piece(self, found: _Upload, offset: int, data: bytes) -> None:
        if offset != found.received:
            raise Conflict(
                f"the next chunk begins at byte {found.received}, this one at {offset}",
                hint="send the chunks one after the other",
            )
        if not 0 < len(data) <= PIECE_LIMIT:
            raise BadInput(f"a chunk must have 1 to {PIECE_LIMIT} bytes, not {len(data)}")
        if offset + len(data) > found.size:
            raise BadInput(
                f"the file was announced with {found.size} bytes, but this chunk ends at {offset + len(data)}"
            )

    def _append(self, found: _Upload, data: bytes) -> None:
        with found.path.open("ab") as file:
            file.write(data)
            if found.received + len(data) == found.size:
                file.flush()
                os.fsync(file.fileno())
        found.digest.update(data)
        found.received += len(data)
        found.touched = self._clock.monotonic()

    def _complete(self, upload: str, found: _Upload) -> str:
        sha256: str = found.digest.hexdigest()
        with self._lock:
            found.path.rename(self.root / sha256)
        sync_directory(self.root)
        self._forget(upload)
        return sha256

    def _forget(self, upload: str) -> None:
        with self._lock:
            self._uploads.pop(upload, None)

    # --- out --------------------------------------------------------------------------------------

    async def use(self, sha256: str) -> int:
        """Reset the age of a file that a message needs; return its size.

        Raises NotFound, StateUnwritable.
        """
        return await asyncio.to_thread(self._use, sha256)

    def _use(self, sha256: str) -> int:
        with self._lock:
            path = path_of(self.root, sha256)
            try:
                os.utime(path)
                return path.stat().st_size
            except FileNotFoundError:
                raise missing(sha256) from None
            except OSError as error:
                raise unwritable(path, error) from error

    async def head(self, sha256: str, size: int) -> bytes:
        """The first bytes of a file.  Raises NotFound, Unavailable."""
        return await asyncio.to_thread(outgoing_file.head, self.root, sha256, size)

    async def prune(self, needed: Collection[str], before_ms: int) -> int:
        """Delete files that were last used before `before_ms` and are not in `needed`; return their number.

        Raises StateUnwritable.
        """
        try:
            return await asyncio.to_thread(self._prune, needed, before_ms)
        except OSError as error:
            raise unwritable(self.root, error) from error

    def _prune(self, needed: Collection[str], before_ms: int) -> int:
        gone = 0
        for path in [path for path in self.root.iterdir() if path.name != self._incoming.name]:
            with self._lock:
                if path.name not in needed and path.stat().st_mtime * 1000 < before_ms:
                    path.unlink()
                    gone += 1
        return gone
