"""A TCP proxy between a daemon and the emulator that can cut, delay and drop bytes, and counts them.

It runs on threads of its own, so that it runs whatever the test's event loop does.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Final

_CHUNK: Final = 1 << 16


class Weather(StrEnum):
    """What happens to the bytes."""

    CLEAR = "they pass"
    SWALLOWED = "they vanish, both ways; connections stay open, new ones are taken"
    DEAF = "requests arrive, responses vanish"
    REFUSED = "connections are cut, new ones refused"


class Proxy:
    """Listens on `port` and forwards to 127.0.0.1:`target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._weather = Weather.CLEAR
        self.delay = 0.0
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def weather(self) -> Weather:
        """What happens to the bytes now."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        if weather is Weather.REFUSED:
            self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            doomed, self._open = self._open, set()
        for sock in doomed:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop the proxy."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._weather is Weather.REFUSED:
                client.close()
                continue
            self._join(client)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self.connections += 1
        with self._lock:
            self._open |= {client, server}
        for source, sink, answers in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._pass, args=(source, sink, answers), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if self.delay:
                    time.sleep(self.delay)
                if self._weather is Weather.CLEAR or (
                    self._weather is Weather.DEAF and not answers
                ):
                    sink.sendall(data)
        for sock in (source, sink):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        source.close()
        with self._lock:
            self._open -= {source, sink}


@contextmanager
def a_proxy(target: int) -> Iterator[Proxy]:
    """A running proxy."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
