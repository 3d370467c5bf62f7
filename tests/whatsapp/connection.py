"""One client's connection: the handshake, then stanzas both ways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from tests.whatsapp import pb, wire
from tests.whatsapp.front import WebSocket
from tests.whatsapp.noise import Authority, Frames, Handshake, Transport
from tests.whatsapp.people import Device
from tests.whatsapp.wire import Node

_QR_REFS = 6  # exactly six make the first code last 60 s (whatsapp-protocol.md 5.1)


class Connection:
    """An established connection.  `device` is set once it is logged in, `refs` while it shows QR codes."""

    def __init__(self, socket: WebSocket, frames: Frames, transport: Transport) -> None:
        self._socket = socket
        self._frames = frames
        self._transport = transport
        payload = pb.decode(transport.client_payload)
        self.username = str(pb.number(payload, 1))
        self.device_number = pb.number(payload, 18)
        self.candidate: Device | None = None
        self.refs: tuple[str, ...] = ()
        if 19 in payload:
            self.candidate = Device.from_registration(pb.data(payload, 19))
            self.refs = tuple(f"2@{n}{os.urandom(8).hex()}" for n in range(_QR_REFS))
        self.device: Device | None = None

    @staticmethod
    async def accept(socket: WebSocket, authority: Authority) -> Connection:
        """Shake hands.  Raises ConnectionError."""
        frames, handshake = Frames(), Handshake(authority)
        while True:
            for frame in frames.feed(await socket.receive()):
                answer = handshake.receive(frame)
                if isinstance(answer, Transport):
                    return Connection(socket, frames, answer)
                socket.send(answer)

    async def stanzas(self) -> AsyncIterator[Node]:
        """What the client says, until it is gone."""
        while True:
            try:
                data = await self._socket.receive()
            except ConnectionError:
                return
            for frame in self._frames.feed(data):
                yield wire.decode(self._transport.open(frame))

    async def send(self, stanza: Node) -> None:
        """Say something.  Raises ConnectionError when the client is gone."""
        self._socket.send(self._transport.seal(wire.encode(stanza)))
        await self._socket.drain()

    async def end(self, goodbye: Node) -> None:
        """Say something last, then cut the connection."""
        try:
            await self.send(goodbye)
            await asyncio.sleep(0.05)  # or the client sees the end of the stream first
        except ConnectionError:
            pass
        self.abort()

    def abort(self) -> None:
        """Cut it."""
        self._socket.abort()
