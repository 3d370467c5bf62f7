"""Reading and answering the daemon's requests in the worker."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from wad.core import wire
from wad.core.errors import EngineFailure, WadError
from wad.worker.faults import Faults
from wad.worker.link import DaemonSocket, Permission

log = logging.getLogger("wad.worker")

_READ_LOCK_WAIT: Final = 0.2  # seconds that another thread may hold the socket


class RequestReader:
    """Reads the daemon's frames; a renewal of the permission takes effect as soon as it is read."""

    def __init__(self, sock: socket.socket, permission: Permission) -> None:
        self._socket = sock
        self._permission = permission
        self._decoder = wire.Decoder(wire.REPLY)
        self._reading = threading.Lock()
        self._requests: list[wire.Request] = []
        self._closed = False

    def read_pending(self) -> None:
        """Read all frames that have arrived, without waiting for more.  From any thread."""
        if self._reading.acquire(timeout=_READ_LOCK_WAIT):
            try:
                self._read()
            finally:
                self._reading.release()

    def requests(self) -> Iterator[wire.Request]:
        """The daemon's requests, until it closes the socket."""
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        while True:
            with self._reading:
                self._read()
                requests, self._requests = self._requests, []
            yield from requests
            if self._closed:
                return
            readable.poll()

    def _read(self) -> None:
        """Read everything that has arrived."""
        with suppress(BlockingIOError):
            while data := self._socket.recv(1 << 16, socket.MSG_DONTWAIT):
                self._take(data)
            self._closed = True

    def _take(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            match frame:
                case wire.Request():
                    self._requests.append(frame)
                case wire.Notice("until", [float(until) | int(until)]):
                    self._permission.extend(until)
                case _:
                    log.warning("unexpected frame from the daemon: %s", type(frame).__name__)


def serve(
    answer: Callable[[str, Any], Any], link: DaemonSocket, reader: RequestReader, faults: Faults
) -> None:
    """Answer the daemon's requests with `answer(method, params)` until it closes the socket; never returns."""
    # A probe must never wait behind a call that hangs: with it the daemon detects such a call.
    pools = {"probe": ThreadPoolExecutor(1, "probe")}
    calls = ThreadPoolExecutor(4, "call")

    def respond(request: wire.Request) -> None:
        try:
            link.send(wire.Response(request.id, None, answer(request.method, request.params)))
        except WadError as error:
            link.send(wire.Response(request.id, error, None))
        except Exception as error:
            log.exception("%s failed", request.method)
            link.send(
                wire.Response(request.id, EngineFailure(f"{type(error).__name__}: {error}"), None)
            )

    for request in reader.requests():
        pool = pools.get(request.method, calls)
        pool.submit(faults.guarded("an answer", partial(respond, request)))
    os._exit(5)  # the daemon is gone
