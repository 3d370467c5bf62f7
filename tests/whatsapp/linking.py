"""Linking a device to an account's phone: by the device's QR code, or by a code of eight characters.

See docs/internals/whatsapp-protocol.md#pairing-by-qr-code and
docs/internals/whatsapp-protocol.md#pairing-by-a-code-of-eight-characters.  Both ways end alike: the account signs the
device's identity, and vouches for the signature with a secret that only the device and the phone know.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair, hkdf, mac
from tests.whatsapp.wire import SERVER, Node, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.connection import Connection

_ADV_PREFIX = b"\x06\x00"  # of what an account signs for a linked device
_RAW_ID = 12345
_TIMEOUT = 30.0
_ROUNDS = 2 << 16  # of PBKDF2
_PREFIX = "link_code_pairing_"


def scan(account: Account, qr: str) -> int:
    """Link the device that shows this QR code.  Raises ValueError for an unknown code."""
    try:
        ref, *keys = qr.rpartition("#")[2].split(",")[:4]
        noise, identity, secret = (base64.b64decode(part, validate=True) for part in keys)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"not a QR code of WhatsApp: {qr[:80]!r}") from error
    showing = account.server.unlinked()
    for connection in showing:
        if ref not in connection.refs or connection.candidate is None:
            continue
        if (connection.noise, connection.candidate.identity) != (noise, identity):
            raise ValueError("the QR code's keys are not those of the device that shows it")
        return link(account, connection, secret)
    raise ValueError(f"no device shows this QR code (any more); {len(showing)} show others")


def link(account: Account, connection: Connection, secret: bytes) -> int:
    """Link the device at the other end; returns its number.

    The identity that signs is the one in the phone's key bundle.
    """
    device = account.link(connection.take_candidate())
    server, signer = account.server, account.phone.keys.identity
    details = pb.encode({1: _RAW_ID, 2: server.now(), 3: device.number})
    signature = signer.sign(_ADV_PREFIX + details + device.keys.identity)
    signed = pb.encode({1: details, 2: signer.public, 3: signature})
    success = node(
        "pair-success",
        node("device-identity", pb.encode({1: signed, 2: mac(secret, signed)})),
        node("device", jid=device.jid, lid=device.lid),
        node("platform", name="android"),
    )
    ident = server.next_id()
    connection.send(node("iq", success, from_=SERVER, type_="set", id=ident, t=server.now()))
    return device.number


# --- by code ----------------------------------------------------------------------------------


class CodeRequest:
    """A device's request to be linked by code; `finish` is its last stanza, after the code was entered."""

    def __init__(self, hello: Node) -> None:
        self.number = hello.jid("jid").user
        self.ref = os.urandom(8).hex().encode()
        self.wrapped = hello.content(f"{_PREFIX}wrapped_companion_ephemeral_pub")
        self.finish: Node | None = None


def answer(connection: Connection, iq: Node) -> Node:
    """The answer to a query of a device that is not linked yet."""
    content = []
    request = iq.child("link_code_companion_reg")
    if request is not None and request.get("stage") == "companion_hello":
        connection.code_request = CodeRequest(request)
        ref = node(f"{_PREFIX}ref", connection.code_request.ref)
        content.append(node("link_code_companion_reg", ref))
    elif request is not None and connection.code_request is not None:
        connection.code_request.finish = request
    return node("iq", *content, type_="result", id=iq.get("id"), from_=SERVER)


def _wrap(code: bytes, salt: bytes, iv: bytes, data: bytes) -> bytes:
    key = hashlib.pbkdf2_hmac("sha256", code, salt, _ROUNDS, 32)
    return Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor().update(data)


def _asking(account: Account) -> tuple[Connection, CodeRequest]:
    for connection in account.server.unlinked():
        request = connection.code_request
        if request is not None and request.number == account.pn.user:
            return connection, request
    raise ValueError(f"no device asks the phone {account.pn.user} for a code")


async def enter_code(account: Account, code: str) -> int:
    """Link the device that shows this code.  Raises ValueError for another code, or without a request."""
    server, identity = account.server, account.phone.keys.identity
    connection, request = _asking(account)
    secret = code.replace("-", "").encode()
    wrapped = request.wrapped
    theirs = _wrap(secret, wrapped[:32], wrapped[32:48], wrapped[48:80])
    mine, salt, iv = KeyPair(), os.urandom(32), os.urandom(16)
    registration = node(
        "link_code_companion_reg",
        node(f"{_PREFIX}ref", request.ref),
        node(
            f"{_PREFIX}wrapped_primary_ephemeral_pub",
            salt + iv + _wrap(secret, salt, iv, mine.public),
        ),
        node("primary_identity_pub", identity.public),
    )
    connection.send(
        node(
            "notification", registration, type_="link_code_companion_reg", from_=SERVER,
            id=server.next_id(), t=server.now(),
        )
    )  # fmt: skip
    finish = await server.news.until(lambda: request.finish, _TIMEOUT, "end of linking by code")
    bundle = finish.content(f"{_PREFIX}wrapped_key_bundle")
    shared = mine.agree(theirs)
    key = hkdf(shared, 32, b"link_code_pairing_key_bundle_encryption_key", bundle[:32])
    try:
        plain = AESGCM(key).decrypt(bundle[32:44], bundle[44:], None)
    except InvalidTag:
        request.finish = None  # the code can be entered once more
        raise ValueError(f"the device shows another code than {code!r}") from None
    device_identity, own_identity, random = plain[:32], plain[32:64], plain[64:]
    if own_identity != identity.public:
        raise ValueError("the device took another account's identity for this one's")
    secrets = shared + identity.agree(device_identity) + random
    return link(account, connection, hkdf(secrets, 32, b"adv_secret"))
