"""One client's connection: the handshake, then stanzas both ways."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator

from tests.whatsapp import pb, wire
from tests.whatsapp.device import DeviceKeys
from tests.whatsapp.front import WebSocket
from tests.whatsapp.linking import CodeRequest
from tests.whatsapp.noise import Authority, Frames, Handshake, Transport
from tests.whatsapp.wire import SERVER, Node, node

log = logging.getLogger(__name__)

# Exactly six make the first code last 60 s (docs/internals/whatsapp-protocol.md#pairing-by-qr-code).
CODES = 6
_END = "end"
_GRACE = 2.0  # seconds for a client to read the last stanza before it is cut off anyway
_USERNAME, _DEVICE, _PAIRING = 1, 18, 19  # fields of ClientPayload


class Connection:
    """An established connection: it logs in as a device, or shows QR codes and has `refs` and a candidate's keys."""

    def __init__(self, socket: WebSocket, frames: Frames, transport: Transport, codes: int) -> None:
        self._socket = socket
        self._frames = frames
        self._transport = transport
        self._ended = False
        payload = pb.decode(transport.client_payload)
        self.username = str(pb.number(payload, _USERNAME))
        self.device_number = pb.number(payload, _DEVICE)
        self.noise = transport.client_static
        self.candidate: DeviceKeys | None = None
        self.refs: tuple[str, ...] = ()
        self.code_request: CodeRequest | None = None
        if _PAIRING in payload:
            registration = pb.data(payload, _PAIRING)
            self.candidate = DeviceKeys.from_registration(self.noise, registration)
            self.refs = tuple(f"2@{n}{os.urandom(8).hex()}" for n in range(codes))

    @staticmethod
    async def accept(socket: WebSocket, authority: Authority, codes: int = CODES) -> Connection:
        """Shake hands; a device that wants to be linked gets `codes` references for QR codes.

        Raises ConnectionError, and ValueError for a client that is not a WhatsApp client.
        """
        frames, handshake = Frames(), Handshake(authority)
        while True:
            for frame in frames.feed(await socket.receive()):
                answer = handshake.receive(frame)
                if isinstance(answer, Transport):
                    return Connection(socket, frames, answer, codes)
                socket.send(answer)

    def take_candidate(self) -> DeviceKeys:
        """The keys of the device that shows QR codes; this uses up the codes."""
        keys, self.candidate, self.refs = self.candidate, None, ()
        if keys is None:
            raise ValueError("this connection shows no QR code")
        return keys

    async def stanzas(self) -> AsyncIterator[Node]:
        """The client's stanzas, until it disconnects, or has read the last stanza.  Raises ValueError."""
        data = b""  # the end of the handshake may be followed by data
        while True:
            for frame in self._frames.feed(data):
                stanza = wire.decode(self._transport.open(frame))
                log.debug("< %s", stanza)
                if stanza.tag == "ack" and stanza.get("id") == _END:
                    return
                yield stanza
            try:
                data = await self._socket.receive()
            except ConnectionError:
                return

    def send(self, stanza: Node) -> None:
        """Send a stanza.  Raises ConnectionError if the client has disconnected."""
        log.debug("> %s", stanza)
        self._socket.send(self._transport.seal(wire.encode(stanza)))

    def end(self, goodbye: Node) -> None:
        """Send the last stanza; the connection ends once the client has read it.

        A client that sees the end of the stream before it has handled all stanzas treats it as a network failure
        (docs/internals/whatsapp-protocol.md#the-end-of-a-connection).  A notification after the last stanza is
        acknowledged in order, and proves that it was read.
        """
        try:
            self.send(goodbye)
            self.send(node("notification", from_=SERVER, type_="server", id=_END, t=0))
        except ConnectionError:
            return
        asyncio.get_running_loop().call_later(_GRACE, self.abort)

    def abort(self) -> None:
        """Cut it."""
        self._socket.abort()

    def close(self) -> None:
        """It has ended; `gone` is set from now on."""
        self._ended = True
        self.abort()

    def gone(self) -> bool:
        """Whether it has ended."""
        return self._ended
