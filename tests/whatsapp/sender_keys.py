"""Sender keys, with which a member of a group encrypts a message once for all.

See docs/internals/whatsapp-protocol.md#sender-keys.

distribution  0x33 | pb{1: id, 2: iteration, 3: chain key, 4: signing key}
message       0x33 | pb{1: id, 2: iteration, 3: ciphertext} | signature over everything before
"""

from __future__ import annotations

import os

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair, hkdf, verify
from tests.whatsapp.signal_protocol import (
    VERSION,
    Chain,
    cbc_decrypt,
    cbc_encrypt,
    pad,
    point,
    unpad,
)

_SIGNATURE = 64


def _message_keys(seed: bytes) -> tuple[bytes, bytes]:
    keys = hkdf(seed, 48, b"WhisperGroup")
    return keys[16:], keys[:16]


class SenderKey:
    """Our sending half.  `sent_to` contains the identity keys of the devices that have it."""

    def __init__(self) -> None:
        self.id = int.from_bytes(os.urandom(3), "big")
        self.sent_to: set[bytes] = set()
        self._chain = Chain(os.urandom(32))
        self._signing = KeyPair()

    def distribution(self) -> bytes:
        """The distribution message for a device."""
        return VERSION + pb.encode(
            {1: self.id, 2: self._chain.index, 3: self._chain.key, 4: point(self._signing.public)}
        )

    def encrypt(self, plaintext: bytes) -> bytes:
        """A serialized "skmsg"."""
        iteration = self._chain.index
        cipher_key, iv = _message_keys(self._chain.next())
        ciphertext = cbc_encrypt(cipher_key, iv, pad(plaintext))
        body = VERSION + pb.encode({1: self.id, 2: iteration, 3: ciphertext})
        return body + self._signing.sign(body)


class ReceivedSenderKey:
    """Another device's key, from its distribution message.  Raises ValueError for an invalid one."""

    def __init__(self, distribution: bytes) -> None:
        fields = pb.decode(distribution[1:])
        self.id = pb.number(fields, 1)
        self._chain = Chain(pb.data(fields, 3), pb.number(fields, 2))
        self._signing = pb.data(fields, 4)[1:]

    def decrypt(self, message: bytes) -> bytes:
        """Decrypt a "skmsg".  Raises ValueError, and is then unchanged."""
        body, signature = message[:-_SIGNATURE], message[-_SIGNATURE:]
        fields = pb.decode(body[1:])
        if pb.number(fields, 1) != self.id:
            raise ValueError(f"the message is for the sender key {pb.number(fields, 1)}")
        if not verify(self._signing, body, signature):
            raise ValueError("bad signature")
        seed, after = self._chain.at(pb.number(fields, 2))
        cipher_key, iv = _message_keys(seed)
        plain = unpad(cbc_decrypt(cipher_key, iv, pb.data(fields, 3)))
        self._chain = after
        return plain
