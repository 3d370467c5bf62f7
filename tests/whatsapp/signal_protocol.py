"""Signal protocol v3 in libsignal's form: X3DH and the double ratchet.  Groups: sender_keys.py.

Byte layouts (docs/internals/whatsapp-protocol.md#signal-sessions; all public keys on the wire have a leading 0x05):

    message     0x33 | pb{1: ratchet key, 2: counter, 3: previous counter, 4: ciphertext}
                | first 8 bytes of HMAC(mac key, sender id | receiver id | everything before)
    pre-key     0x33 | pb{1: one-time id, 2: base key, 3: identity, 4: message,
                          5: registration id, 6: signed pre-key id}
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair, hkdf, mac

VERSION = b"\x33"
REGISTRATION_ID = 4711  # of every phone whose keys we have; nothing reads it
_BLOCK = 16
_FAR = 2000  # libsignal's limits: how far a message may be ahead of its chain,
_CHAINS = 5  # and how many receiving chains are kept


def point(public: bytes) -> bytes:
    """A public key in its wire form."""
    return b"\x05" + public


def cbc_encrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-256-CBC with PKCS#7 padding."""
    missing = _BLOCK - len(data) % _BLOCK
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(data + bytes((missing,)) * missing)


def cbc_decrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """Undo cbc_encrypt().  Raises ValueError."""
    if not data or len(data) % _BLOCK:
        raise ValueError("no whole blocks of ciphertext")
    padded = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor().update(data)
    size = padded[-1]
    if not 1 <= size <= _BLOCK or padded[-size:] != bytes((size,)) * size:
        raise ValueError("bad padding")
    return padded[:-size]


def pad(message: bytes) -> bytes:
    """WhatsApp's own padding around the protobuf: n bytes of value n, 1..15."""
    size = os.urandom(1)[0] % 15 + 1
    return message + bytes((size,)) * size


def unpad(message: bytes) -> bytes:
    """Undo pad().  Raises ValueError."""
    if not message or not 1 <= message[-1] <= min(16, len(message)):
        raise ValueError("bad padding around the message")
    return message[: -message[-1]]


@dataclass
class PreKey:
    """A one-time or signed pre-key of ours."""

    id: int
    pair: KeyPair = field(default_factory=KeyPair)


@dataclass
class Bundle:
    """Another device's public keys, as it uploaded them."""

    identity: bytes
    signed_id: int
    signed: bytes
    one_time_id: int | None = None
    one_time: bytes | None = None


@dataclass
class Chain:
    """A symmetric ratchet: a seed for every message, and those of skipped messages."""

    key: bytes
    index: int = 0
    skipped: dict[int, bytes] = field(default_factory=dict)

    def next(self) -> bytes:
        """The next message's seed."""
        seed = mac(self.key, b"\x01")
        self.key = mac(self.key, b"\x02")
        self.index += 1
        return seed

    def at(self, counter: int) -> tuple[bytes, Chain]:
        """The seed of a message, and the chain after that message."""
        if counter - self.index > _FAR:
            raise ValueError(f"message {counter} is too far ahead of {self.index}")
        after = Chain(self.key, self.index, dict(self.skipped))
        while after.index <= counter:
            index = after.index
            after.skipped[index] = after.next()
        if counter not in after.skipped:
            raise ValueError(f"message {counter} of this chain was decrypted before")
        return after.skipped.pop(counter), after


def _message_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(seed, 80, b"WhisperMessageKeys")
    return keys[:32], keys[32:64], keys[64:]


class Session:
    """One double-ratchet session between a device of ours and another device."""

    def __init__(self, identity: KeyPair, their_identity: bytes, secret: bytes) -> None:
        keys = hkdf(b"\xff" * 32 + secret, 64, b"WhisperText")
        self._ours = point(identity.public)
        self._theirs = point(their_identity)
        self._root, self._initial_chain = keys[:32], keys[32:]
        self._ratchet = KeyPair()
        self._sending = Chain(b"")
        self._receiving: dict[bytes, Chain] = {}
        self._previous = 0
        self._pre_key_header: pb.Message | None = None  # until they answer

    @classmethod
    def initiate(cls, identity: KeyPair, bundle: Bundle) -> Session:
        """Start a session from a pre-key bundle ("Alice")."""
        base = KeyPair()
        secret = identity.agree(bundle.signed) + base.agree(bundle.identity)
        secret += base.agree(bundle.signed)
        if bundle.one_time is not None:
            secret += base.agree(bundle.one_time)
        self = cls(identity, bundle.identity, secret)
        self._turn(bundle.signed)
        self._pre_key_header = {
            1: bundle.one_time_id,
            2: point(base.public),
            3: point(identity.public),
            5: REGISTRATION_ID,
            6: bundle.signed_id,
        }
        return self

    @classmethod
    def accept(
        cls, identity: KeyPair, signed: PreKey, one_time: Mapping[int, PreKey], message: bytes
    ) -> Session:
        """Answer another device's first pre-key message ("Bob"); then decrypt() it.  Raises ValueError."""
        fields = pb.decode(message[1:])
        base, theirs = pb.data(fields, 2)[1:], pb.data(fields, 3)[1:]
        if pb.number(fields, 6) != signed.id:
            raise ValueError(f"the message is for the signed pre-key {pb.number(fields, 6)}")
        secret = signed.pair.agree(theirs) + identity.agree(base) + signed.pair.agree(base)
        if 1 in fields:
            number = pb.number(fields, 1)
            if number not in one_time:
                raise ValueError(f"the message is for the one-time key {number}, which is not here")
            secret += one_time[number].pair.agree(base)
        self = cls(identity, theirs, secret)
        self._ratchet = signed.pair
        self._sending = Chain(self._initial_chain)
        return self

    def _derive(self, their_ratchet: bytes) -> tuple[bytes, Chain]:
        shared = self._ratchet.agree(their_ratchet)
        keys = hkdf(shared, 64, b"WhisperRatchet", self._root)
        return keys[:32], Chain(keys[32:])

    def _turn(self, their_ratchet: bytes) -> None:
        self._previous = max(self._sending.index - 1, 0)
        self._ratchet = KeyPair()
        self._root, self._sending = self._derive(their_ratchet)

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Return the stanza type ("pkmsg" or "msg") and the serialized message."""
        counter = self._sending.index
        cipher_key, mac_key, iv = _message_keys(self._sending.next())
        body = VERSION + pb.encode(
            {
                1: point(self._ratchet.public),
                2: counter,
                3: self._previous,
                4: cbc_encrypt(cipher_key, iv, pad(plaintext)),
            }
        )
        message = body + mac(mac_key, self._ours, self._theirs, body)[:8]
        if self._pre_key_header is None:
            return "msg", message
        return "pkmsg", VERSION + pb.encode({**self._pre_key_header, 4: message})

    def decrypt(self, kind: str, message: bytes) -> bytes:
        """Decrypt a "pkmsg" or "msg".  Raises ValueError for another session's message, and is then unchanged."""
        if kind == "pkmsg":
            message = pb.data(pb.decode(message[1:]), 4)
        body, tag = message[:-8], message[-8:]
        fields = pb.decode(body[1:])
        ratchet, counter, ciphertext = pb.data(fields, 1), pb.number(fields, 2), pb.data(fields, 4)
        root, chain = self._root, self._receiving.get(ratchet)
        if chain is None:
            root, chain = self._derive(ratchet[1:])
        seed, after = chain.at(counter)
        cipher_key, mac_key, iv = _message_keys(seed)
        if not hmac.compare_digest(mac(mac_key, self._theirs, self._ours, body)[:8], tag):
            raise ValueError("bad MAC")
        plain = unpad(cbc_decrypt(cipher_key, iv, ciphertext))
        if ratchet not in self._receiving:
            self._root = root
            self._turn(ratchet[1:])
            while len(self._receiving) >= _CHAINS:
                del self._receiving[next(iter(self._receiving))]
        self._receiving[ratchet] = after
        self._pre_key_header = None
        return plain
