"""Changes that are sealed with the secret of their target (docs/internals/whatsapp-protocol.md#sealed-changes)."""

from __future__ import annotations

import os
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.whatsapp import pb
from tests.whatsapp.contents import Target
from tests.whatsapp.curve import hkdf
from tests.whatsapp.wire import Jid


class SealedEdit(IntEnum):
    """SecretEncryptedMessage.SecretEncType."""

    EVENT = 1
    MESSAGE = 2
    POLL = 4
    OPTION = 5


_LABELS = {
    SealedEdit.EVENT: "Event Edit",
    SealedEdit.MESSAGE: "Message Edit",
    SealedEdit.POLL: "Poll Edit",
    SealedEdit.OPTION: "Poll Edit",
}


def _seal(
    secret: bytes,
    target: str,
    author: Jid,
    editor: Jid,
    label: str,
    plain: bytes,
    bound: bytes | None,
) -> tuple[bytes, bytes]:
    info = f"{target}{author.bare()}{editor.bare()}{label}".encode()
    iv = os.urandom(12)
    return AESGCM(hkdf(secret, 32, info)).encrypt(iv, plain, bound), iv


def sealed_edit(
    target: Target,
    secret: bytes,
    editor: Jid,
    content: pb.Message,
    kind: SealedEdit = SealedEdit.MESSAGE,
) -> pb.Message:
    """A secretEncryptedMessage: the author of `target` changes it; `editor` is the address in the seal."""
    plain = pb.encode(content)
    payload, iv = _seal(secret, target.ident, target.sender, editor, _LABELS[kind], plain, None)
    return {82: {1: target.key(), 2: payload, 3: iv, 4: int(kind)}}


def sealed_reaction(target: Target, secret: bytes, sender: Jid, emoji: str, at: int) -> pb.Message:
    """An encReactionMessage; inside is a reaction without a key."""
    plain = pb.encode({2: emoji, 4: at * 1000})
    payload, iv = _seal(secret, target.ident, target.sender, sender, "Enc Reaction", plain, None)
    return {56: {1: target.key(), 2: payload, 3: iv}}


def sealed_comment(target: Target, secret: bytes, sender: Jid, content: pb.Message) -> pb.Message:
    """An encCommentMessage."""
    plain = pb.encode(content)
    payload, iv = _seal(secret, target.ident, target.sender, sender, "Enc Comment", plain, None)
    return {71: {1: target.key(), 2: payload, 3: iv}}


def sealed_event_response(target: Target, secret: bytes, sender: Jid, response: int) -> pb.Message:
    """An encEventResponseMessage: going (1), not (2), perhaps (3)."""
    bound = f"{target.ident}\0{sender.bare()}".encode()
    plain = pb.encode({1: response})
    payload, iv = _seal(secret, target.ident, target.sender, sender, "Event Response", plain, bound)
    return {76: {1: target.key(), 2: payload, 3: iv}}
