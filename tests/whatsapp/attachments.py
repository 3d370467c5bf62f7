"""Attachments: the form of a file on the media host, and its description in a message.

See docs/internals/whatsapp-protocol.md#media.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from enum import StrEnum

from tests.whatsapp import pb
from tests.whatsapp.curve import hkdf, mac
from tests.whatsapp.media import MediaHost
from tests.whatsapp.signal_protocol import cbc_decrypt, cbc_encrypt

_TAG = 10  # bytes of the MAC that are kept


class Kind(StrEnum):
    """The purposes for which keys are derived; stickers are images here."""

    IMAGE = "Image"
    VIDEO = "Video"
    AUDIO = "Audio"
    DOCUMENT = "Document"
    HISTORY = "History"


@dataclass(frozen=True)
class Attachment:
    """A file on the media host, as its message describes it."""

    path: str  # with a query, since clients append "&hash=..."
    key: bytes
    plain_hash: bytes
    encrypted_hash: bytes
    size: int


def _keys(key: bytes, kind: Kind) -> tuple[bytes, bytes, bytes]:
    keys = hkdf(key, 112, f"WhatsApp {kind} Keys".encode())
    return keys[:16], keys[16:48], keys[48:80]


def upload(host: MediaHost, data: bytes, kind: Kind) -> Attachment:
    """Encrypt a file and upload it to the media host."""
    key = os.urandom(32)
    iv, cipher_key, mac_key = _keys(key, kind)
    ciphertext = cbc_encrypt(cipher_key, iv, data)
    encrypted = ciphertext + mac(mac_key, iv, ciphertext)[:_TAG]
    path = f"/v/{os.urandom(12).hex()}.enc"
    host.files[path] = encrypted
    digests = hashlib.sha256(data).digest(), hashlib.sha256(encrypted).digest()
    return Attachment(f"{path}?x=1", key, *digests, len(data))


def download(host: MediaHost, attachment: Attachment, kind: Kind) -> bytes:
    """The file that a message announces.  Raises ValueError if it is missing or another file."""
    encrypted = host.files.get(attachment.path.partition("?")[0])
    if encrypted is None:
        raise ValueError(f"{attachment.path} is not on the media host")
    if hashlib.sha256(encrypted).digest() != attachment.encrypted_hash:
        raise ValueError(f"{attachment.path} is not what was announced")
    iv, cipher_key, mac_key = _keys(attachment.key, kind)
    ciphertext, tag = encrypted[:-_TAG], encrypted[-_TAG:]
    if not hmac.compare_digest(mac(mac_key, iv, ciphertext)[:_TAG], tag):
        raise ValueError(f"{attachment.path} has a bad MAC")
    data = cbc_decrypt(cipher_key, iv, ciphertext)
    if (hashlib.sha256(data).digest(), len(data)) != (attachment.plain_hash, attachment.size):
        raise ValueError(f"{attachment.path} holds another file than was announced")
    return data


@dataclass(frozen=True)
class _Fields:
    """The field numbers of a kind's file description: in waE2E.Message and in its own message."""

    message: int
    kind: Kind
    mimetype: int
    plain_hash: int
    size: int
    key: int
    encrypted_hash: int
    path: int
    key_time: int


_FIELDS = {
    "image": _Fields(3, Kind.IMAGE, 2, 4, 5, 8, 9, 11, 12),
    "document": _Fields(7, Kind.DOCUMENT, 2, 4, 5, 7, 9, 10, 11),
    "audio": _Fields(8, Kind.AUDIO, 2, 3, 4, 7, 8, 9, 10),
    "video": _Fields(9, Kind.VIDEO, 2, 3, 4, 6, 11, 13, 14),
    "sticker": _Fields(26, Kind.IMAGE, 5, 2, 9, 4, 3, 8, 10),
}
MEDIA = tuple(_FIELDS)


def announce(
    host: MediaHost, word: str, data: bytes, mimetype: str, at: int, more: pb.Message
) -> pb.Message:
    """A waE2E.Message with a file that was uploaded for it; `word` is one of MEDIA, `more` its other fields."""
    fields = _FIELDS[word]
    file = upload(host, data, fields.kind)
    message = {
        fields.mimetype: mimetype,
        fields.plain_hash: file.plain_hash,
        fields.size: file.size,
        fields.key: file.key,
        fields.encrypted_hash: file.encrypted_hash,
        fields.path: file.path,
        fields.key_time: at,
        **more,
    }
    return {fields.message: message}


def fetch(host: MediaHost, content: bytes) -> bytes:
    """The file that an encoded waE2E.Message announces.  Raises ValueError if it announces none."""
    message = pb.decode(content)
    for fields in _FIELDS.values():
        if fields.message in message:
            said = pb.decode(pb.data(message, fields.message))
            file = Attachment(
                pb.data(said, fields.path).decode(),
                pb.data(said, fields.key),
                pb.data(said, fields.plain_hash),
                pb.data(said, fields.encrypted_hash),
                pb.number(said, fields.size),
            )
            return download(host, file, fields.kind)
    raise ValueError("the message announces no file")
