"""Listening to documents: a stream of their changes, read by one thread, which reports its end.

The library's own `Watch` is not used.  It opens a stream that ended again at once, inside the callback of the end: a
server that refuses makes that a recursion, or a loop without a pause, on gRPC's own thread, and closing the channel
waits for that thread.  Here a stream is one attempt; the caller decides when to open another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
from google.cloud.firestore_v1.client import Client
from google.cloud.firestore_v1.types import Document
from google.cloud.firestore_v1.types.firestore import (
    ListenRequest,
    ListenResponse,
    Target,
    TargetChange,
)

from wad.store.firestore.client import internals
from wad.store.firestore.client.decode import Snapshot, path_of, snapshot_of

log = logging.getLogger(__name__)

OnChanges = Callable[[list[Snapshot]], None]

_TARGET: Final = 1  # the number of our only target in the stream
_Kind: Final = TargetChange.TargetChangeType


class _StreamEnded(Exception):
    """The stream cannot be used any more; the text is the reason."""


class ListenStream:
    """A stream that calls `on_changes` each time the server has sent a consistent state, and `on_end` when it ends.

    The first call has all documents, later calls those that changed; a deleted document does not `exist`.  Both are
    called on the stream's own thread.  It may also die silently, without `on_end`: gRPC detects that only after its
    keepalive.
    """

    def __init__(
        self, client: Client, target: Target, on_changes: OnChanges, on_end: Callable[[], None]
    ) -> None:
        self._on_changes = on_changes
        self._on_end = on_end
        self._ended = threading.Event()
        self._known: dict[str, Snapshot] = {}
        self._changed: dict[str, Snapshot] = {}
        self._current = False
        self._reported = False
        target.target_id = _TARGET
        request = ListenRequest(database=internals.database_name(client), add_target=target)
        self._call: Any = internals.listen(client, self._requests(request))
        threading.Thread(target=self._read, name="listening", daemon=True).start()

    def end(self) -> None:
        """Close the stream without waiting; `on_end` is not called.  Idempotent."""
        self._ended.set()
        self._call.cancel()

    def _requests(self, request: ListenRequest) -> Iterator[ListenRequest]:
        # The request side must stay open: the server would end the stream with it.
        yield request
        self._ended.wait()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._handle(response)
            why = "the server ended it"
        except grpc.RpcError as error:
            why = str(error.details()) if isinstance(error, grpc.Call) else str(error)
        except _StreamEnded as error:
            why = str(error)
        except Exception as error:  # any error ends the stream, and the caller must be notified
            log.exception("listening failed")
            why = str(error)
        if not self._ended.is_set():
            self.end()
            log.info("listening ended: %s", why)
            self._on_end()

    def _handle(self, response: ListenResponse) -> None:
        match ListenResponse.pb(response).WhichOneof("response_type"):
            case "document_change":
                document = response.document_change.document
                if _TARGET in response.document_change.target_ids:
                    raw = Document.pb(document)
                    self._changed[document.name] = snapshot_of(raw)
                else:
                    self._remove(document.name)
            case "document_delete":
                self._remove(response.document_delete.document)
            case "document_remove":
                self._remove(response.document_remove.document)
            case "filter":
                if response.filter.count != self._count():
                    raise _StreamEnded("a change was missed")
            case _:
                self._target_changed(response.target_change)

    def _target_changed(self, change: TargetChange) -> None:
        match change.target_change_type:
            case _Kind.REMOVE:
                raise _StreamEnded(f"the server removed it: {change.cause.message}")
            case _Kind.RESET:
                # The server sends all documents again, changed or not.
                for name in self._known:
                    self._remove(name)
                self._current = False
            case _Kind.CURRENT:
                self._current = True
            case _Kind.NO_CHANGE if self._current and change.read_time and not change.target_ids:
                self._flush()

    def _flush(self) -> None:
        changes = [found for name, found in self._changed.items() if self._has_changed(name, found)]
        self._known = {name: f for name, f in {**self._known, **self._changed}.items() if f.exists}
        self._changed = {}
        if changes or not self._reported:
            self._reported = True
            self._on_changes(changes)

    def _has_changed(self, name: str, found: Snapshot) -> bool:
        before = self._known.get(name)
        if before is None:
            return found.exists or not self._reported
        return found.version != before.version

    def _count(self) -> int:
        return sum(found.exists for found in {**self._known, **self._changed}.values())

    def _remove(self, name: str) -> None:
        self._changed[name] = Snapshot(path_of(name))
