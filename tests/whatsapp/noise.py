"""The server's side of Noise_XX_25519_AESGCM_SHA256 as WhatsApp frames it, without I/O.

Byte layouts: docs/internals/whatsapp-protocol.md#frames-and-noise.  Feed received bytes, send the results.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair, hkdf

PROTOCOL = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
HEADER = b"WA\x06\x03"  # magic, version 6, token dictionary 3
_DAY = 86_400


class Authority:
    """A root key (what the client must trust) and a certificate chain under it."""

    def __init__(self) -> None:
        self.root = KeyPair()
        self.static = KeyPair()
        intermediate = KeyPair()
        now = int(time.time())

        def certificate(signer: KeyPair, serial: int, issuer: int, key: bytes) -> bytes:
            details = pb.encode({1: serial, 2: issuer, 3: key, 4: now - _DAY, 5: now + _DAY})
            return pb.encode({1: details, 2: signer.sign(details)})

        leaf = certificate(intermediate, 2, 1, self.static.public)
        self.chain = pb.encode({1: leaf, 2: certificate(self.root, 1, 0, intermediate.public)})


class Cipher:
    """AES-GCM with a counter as nonce."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)
        self._count = 0

    def _nonce(self) -> bytes:
        self._count += 1
        return (self._count - 1).to_bytes(12, "big")

    def seal(self, data: bytes, extra: bytes = b"") -> bytes:
        """Encrypt."""
        return self._aead.encrypt(self._nonce(), data, extra)

    def open(self, data: bytes, extra: bytes = b"") -> bytes:
        """Decrypt.  Raises ValueError if it was not sealed with this key and counter."""
        try:
            return self._aead.decrypt(self._nonce(), data, extra)
        except InvalidTag as error:
            raise ValueError("not encrypted for this connection, or out of step") from error


def framed(data: bytes) -> bytes:
    """A frame: three bytes of length, and the data."""
    return len(data).to_bytes(3, "big") + data


class Frames:
    """Splits a stream of bytes into frames; the very first bytes are WhatsApp's header."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The complete frames.  Raises ValueError for a client that is not a WhatsApp client."""
        self._buffer += data
        if not self._begun and len(self._buffer) >= len(HEADER):
            if self._buffer[: len(HEADER)] != HEADER:
                raise ValueError(f"no WhatsApp web client: it says {bytes(self._buffer[:40])!r}")
            del self._buffer[: len(HEADER)]
            self._begun = True
        while self._begun and len(self._buffer) >= 3:
            end = 3 + int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[3:end])
            del self._buffer[:end]
            yield frame


class Handshake:
    """Turns the client's two handshake frames into a Transport."""

    def __init__(self, authority: Authority) -> None:
        self._hash = self._salt = PROTOCOL
        self._cipher = Cipher(PROTOCOL)
        self._steps = self._run(authority)
        next(self._steps)

    def receive(self, frame: bytes) -> bytes | Transport:
        """The answer to send, or after the second frame the established transport.  Raises ValueError."""
        return self._steps.send(frame)

    def _authenticate(self, data: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + data).digest()

    def _mix(self, secret: bytes) -> None:
        keys = hkdf(secret, 64, salt=self._salt)
        self._salt, self._cipher = keys[:32], Cipher(keys[32:])

    def _seal(self, data: bytes) -> bytes:
        sealed = self._cipher.seal(data, self._hash)
        self._authenticate(sealed)
        return sealed

    def _open(self, sealed: bytes) -> bytes:
        data = self._cipher.open(sealed, self._hash)
        self._authenticate(sealed)
        return data

    def _run(self, authority: Authority) -> Generator[bytes | Transport, bytes, None]:
        self._authenticate(HEADER)
        hello = pb.decode(pb.data(pb.decode((yield b"")), 2))
        theirs = pb.data(hello, 1)
        self._authenticate(theirs)
        ephemeral = KeyPair()
        self._authenticate(ephemeral.public)
        self._mix(ephemeral.agree(theirs))
        static = self._seal(authority.static.public)
        self._mix(authority.static.agree(theirs))
        payload = self._seal(authority.chain)
        answer = pb.encode({3: {1: ephemeral.public, 2: static, 3: payload}})
        finish = pb.decode(pb.data(pb.decode((yield framed(answer))), 4))
        client_static = self._open(pb.data(finish, 1))
        self._mix(ephemeral.agree(client_static))
        client_payload = self._open(pb.data(finish, 2))
        keys = hkdf(b"", 64, salt=self._salt)
        yield Transport(Cipher(keys[:32]), Cipher(keys[32:]), client_static, client_payload)


class Transport:
    """An established connection: frames are encrypted."""

    def __init__(
        self, incoming: Cipher, outgoing: Cipher, client_static: bytes, client_payload: bytes
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.client_static = client_static
        self.client_payload = client_payload

    def open(self, frame: bytes) -> bytes:
        """The plaintext of a received frame.  Raises ValueError."""
        return self._incoming.open(frame)

    def seal(self, data: bytes) -> bytes:
        """The bytes of a frame to send."""
        return framed(self._outgoing.seal(data))
