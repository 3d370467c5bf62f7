"""Signal protocol v3 as libsignal speaks it: X3DH, double ratchet, sender keys.

Byte layouts (all public keys on the wire have a leading 0x05):

    message     0x33 | pb{1: ratchet key, 2: counter, 3: previous counter, 4: ciphertext}
                | first 8 bytes of HMAC(mac key, sender id | receiver id | everything before)
    pre-key     0x33 | pb{1: one-time id, 2: base key, 3: identity, 4: message,
                          5: registration id, 6: signed pre-key id}
    sender key  0x33 | pb{1: key id, 2: iteration, 3: ciphertext} | 64-byte signature
    distribution 0x33 | pb{1: key id, 2: iteration, 3: chain key, 4: signing key}
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair, hkdf, mac

VERSION = b"\x33"
_ZERO = bytes(32)


def _point(public: bytes) -> bytes:
    return b"\x05" + public


def cbc(key: bytes, iv: bytes, data: bytes, *, encrypt: bool) -> bytes:
    """AES-256-CBC with PKCS#7 padding."""
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv))
    pkcs7 = padding.PKCS7(128)
    if encrypt:
        pad, enc = pkcs7.padder(), cipher.encryptor()
        return enc.update(pad.update(data) + pad.finalize()) + enc.finalize()
    unpad, dec = pkcs7.unpadder(), cipher.decryptor()
    return unpad.update(dec.update(data) + dec.finalize()) + unpad.finalize()


def pad(message: bytes) -> bytes:
    """WhatsApp's own padding around the protobuf: n bytes of value n, 1..15."""
    size = os.urandom(1)[0] % 15 + 1
    return message + bytes([size]) * size


def unpad(message: bytes) -> bytes:
    """Undo pad()."""
    return message[: -message[-1]]


@dataclass
class PreKey:
    """A one-time or signed pre-key that we own."""

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


class _Chain:
    def __init__(self, key: bytes) -> None:
        self.key = key
        self.index = 0
        self.skipped: dict[int, bytes] = {}

    def next(self) -> bytes:
        seed = mac(self.key, b"\x01")
        self.key = mac(self.key, b"\x02")
        self.index += 1
        return seed

    def seed_at(self, counter: int) -> bytes:
        while self.index <= counter:
            index = self.index
            self.skipped[index] = self.next()
        if counter not in self.skipped:
            raise ValueError(f"message {counter} of this chain was decrypted before")
        return self.skipped.pop(counter)


def _message_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(seed, 80, b"WhisperMessageKeys")
    return keys[:32], keys[32:64], keys[64:]


class Session:
    """One double-ratchet session between a device of ours and a device of theirs."""

    def __init__(self, identity: KeyPair, their_identity: bytes, secret: bytes) -> None:
        keys = hkdf(b"\xff" * 32 + secret, 64, b"WhisperText")
        self.identity = identity
        self.their_identity = their_identity
        self._root, self._initial_chain = keys[:32], keys[32:]
        self._ratchet = KeyPair()
        self._sending = _Chain(_ZERO)
        self._receiving: dict[bytes, _Chain] = {}
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
        self._step_root(bundle.signed)
        self._pre_key_header = {
            1: bundle.one_time_id,
            2: _point(base.public),
            3: _point(identity.public),
            5: 4711,
            6: bundle.signed_id,
        }
        return self

    @classmethod
    def accept(
        cls, identity: KeyPair, signed: PreKey, one_time: dict[int, PreKey], message: bytes
    ) -> Session:
        """Answer somebody's first pre-key message ("Bob"); then decrypt() it."""
        fields = pb.decode(message[1:])
        base, theirs = pb.data(fields, 2), pb.data(fields, 3)
        if fields[6] != signed.id:
            raise ValueError("the message is for another signed pre-key")
        secret = signed.pair.agree(theirs[1:]) + identity.agree(base[1:])
        secret += signed.pair.agree(base[1:])
        if 1 in fields:
            secret += one_time[pb.number(fields, 1)].pair.agree(base[1:])
        self = cls(identity, theirs[1:], secret)
        self._ratchet = signed.pair
        self._sending = _Chain(self._initial_chain)
        return self

    def _derive(self, their_ratchet: bytes) -> _Chain:
        shared = self._ratchet.agree(their_ratchet)
        keys = hkdf(shared, 64, b"WhisperRatchet", self._root)
        self._root = keys[:32]
        return _Chain(keys[32:])

    def _step_root(self, their_ratchet: bytes) -> None:
        self._previous = max(self._sending.index - 1, 0)
        self._ratchet = KeyPair()
        self._sending = self._derive(their_ratchet)

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Return the stanza type ("pkmsg" or "msg") and the serialized message."""
        counter = self._sending.index
        cipher_key, mac_key, iv = _message_keys(self._sending.next())
        body = VERSION + pb.encode(
            {
                1: _point(self._ratchet.public),
                2: counter,
                3: self._previous,
                4: cbc(cipher_key, iv, pad(plaintext), encrypt=True),
            }
        )
        ends = _point(self.identity.public) + _point(self.their_identity)
        message = body + mac(mac_key, ends, body)[:8]
        if self._pre_key_header is None:
            return "msg", message
        return "pkmsg", VERSION + pb.encode({**self._pre_key_header, 4: message})

    def decrypt(self, kind: str, message: bytes) -> bytes:
        """Decrypt a "pkmsg" or "msg".  Raises ValueError for another session's message, and stays as it was then."""
        if kind == "pkmsg":
            message = pb.data(pb.decode(message[1:]), 4)
        body, tag = message[:-8], message[-8:]
        fields = pb.decode(body[1:])
        ratchet, counter, ciphertext = pb.data(fields, 1), pb.number(fields, 2), pb.data(fields, 4)
        chain, root = self._receiving.get(ratchet), b""
        if chain is None:
            shared = self._ratchet.agree(ratchet[1:])
            keys = hkdf(shared, 64, b"WhisperRatchet", self._root)
            root, chain = keys[:32], _Chain(keys[32:])
        cipher_key, mac_key, iv = _message_keys(chain.seed_at(counter))
        ends = _point(self.their_identity) + _point(self.identity.public)
        if mac(mac_key, ends, body)[:8] != tag:
            raise ValueError("bad MAC")
        if root:
            self._root, self._receiving[ratchet] = root, chain
            self._step_root(ratchet[1:])
        self._pre_key_header = None
        return unpad(cbc(cipher_key, iv, ciphertext, encrypt=False))


class SenderKey:
    """Our sending half of a group's sender-key ratchet."""

    def __init__(self) -> None:
        self.id = int.from_bytes(os.urandom(3), "big")
        self._chain = _Chain(os.urandom(32))
        self._signing = KeyPair()

    def distribution(self) -> bytes:
        """The message that tells one device how to read us from now on."""
        return VERSION + pb.encode(
            {1: self.id, 2: self._chain.index, 3: self._chain.key, 4: _point(self._signing.public)}
        )

    def encrypt(self, plaintext: bytes) -> bytes:
        """A serialized "skmsg"."""
        iteration = self._chain.index
        keys = hkdf(self._chain.next(), 48, b"WhisperGroup")
        ciphertext = cbc(keys[16:], keys[:16], pad(plaintext), encrypt=True)
        body = VERSION + pb.encode({1: self.id, 2: iteration, 3: ciphertext})
        return body + self._signing.sign(body)


@dataclass
class ReceivedSenderKey:
    """Somebody else's sender-key ratchet, from their distribution message."""

    chain: _Chain

    @classmethod
    def accept(cls, distribution: bytes) -> ReceivedSenderKey:
        """Parse a distribution message."""
        fields = pb.decode(distribution[1:])
        chain = _Chain(pb.data(fields, 3))
        chain.index = pb.number(fields, 2)
        return cls(chain)

    def decrypt(self, message: bytes) -> bytes:
        """Decrypt a "skmsg" (the signature is not checked)."""
        fields = pb.decode(message[1:-64])
        keys = hkdf(self.chain.seed_at(pb.number(fields, 2)), 48, b"WhisperGroup")
        return unpad(cbc(keys[16:], keys[:16], pb.data(fields, 3), encrypt=False))
