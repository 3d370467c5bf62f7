"""Listening to documents: one stream of their changes, read by one thread, and its end is told.

The library's own `Watch` is not used.  A stream of its that ends is opened again at once, inside the callback of the
end: a server that refuses makes that a recursion, or a loop without a pause, on gRPC's own thread, for which whoever
closes the channel waits.  Here a stream is one attempt; who wants another opens one, when it sees fit.
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

Tell = Callable[[list[Snapshot]], None]

_TARGET: Final = 1  # the number of our one target in the stream
_Kind: Final = TargetChange.TargetChangeType


class _Over(Exception):
    """The stream is of no more use; the text says why."""


class ListenStream:
    """Calls `tell` with what changed, each time the server says that all is told up to some moment; `lost` at its end.

    The first time everything is told that is there, then what is other than before; what is gone does not `exist`.
    Both are called on the stream's own thread.  It may still die silently, without `lost`: gRPC finds that out only
    after its keepalive.
    """

    def __init__(
        self, client: Client, target: Target, tell: Tell, lost: Callable[[], None]
    ) -> None:
        self._tell = tell
        self._lost = lost
        self._over = threading.Event()
        self._told: dict[str, Snapshot] = {}
        self._changed: dict[str, Snapshot] = {}
        self._current = False
        self._begun = False
        target.target_id = _TARGET
        request = ListenRequest(database=internals.database_name(client), add_target=target)
        self._call: Any = internals.listen(client, self._asking(request))
        threading.Thread(target=self._read, name="listening", daemon=True).start()

    def end(self) -> None:
        """Hang up, without waiting; `lost` is not called.  Idempotent."""
        self._over.set()
        self._call.cancel()

    def _asking(self, request: ListenRequest) -> Iterator[ListenRequest]:
        # What asks must stay open: the server would end the stream with it.
        yield request
        self._over.wait()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._hear(response)
            why = "the server ended it"
        except grpc.RpcError as error:
            why = str(error.details()) if isinstance(error, grpc.Call) else str(error)
        except _Over as error:
            why = str(error)
        except Exception as error:  # whatever it is, whoever listens must hear that this has ended
            log.exception("listening failed")
            why = str(error)
        if not self._over.is_set():
            self.end()
            log.info("listening ended: %s", why)
            self._lost()

    def _hear(self, response: ListenResponse) -> None:
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
                    raise _Over("something was missed")
            case _:
                self._turn(response.target_change)

    def _turn(self, change: TargetChange) -> None:
        match change.target_change_type:
            case _Kind.REMOVE:
                raise _Over(f"the server removed it: {change.cause.message}")
            case _Kind.RESET:
                # All that is still there comes again, changed or not.
                for name in self._told:
                    self._remove(name)
                self._current = False
            case _Kind.CURRENT:
                self._current = True
            case _Kind.NO_CHANGE if self._current and change.read_time and not change.target_ids:
                self._flush()

    def _flush(self) -> None:
        news = [found for name, found in self._changed.items() if self._is_news(name, found)]
        self._told = {name: f for name, f in {**self._told, **self._changed}.items() if f.exists}
        self._changed = {}
        if news or not self._begun:
            self._begun = True
            self._tell(news)

    def _is_news(self, name: str, found: Snapshot) -> bool:
        before = self._told.get(name)
        if before is None:
            return found.exists or not self._begun
        return found.version != before.version

    def _count(self) -> int:
        return sum(found.exists for found in {**self._told, **self._changed}.values())

    def _remove(self, name: str) -> None:
        self._changed[name] = Snapshot(path_of(name))
