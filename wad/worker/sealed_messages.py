"""Changes that are sealed with the secret of the message that they change: edits, reactions, comments, answers.

The key is HKDF-SHA256 of the secret without salt, over the target's id, its author, the author of the change, and a
label; the cipher is AES-256-GCM (docs/internals/whatsapp-protocol.md#sealed-changes).  Either author may be written as
a number or as a LID, so all combinations are tried: a wrong one fails at once.

A valid seal does not prove who wrote the change, since every member of a group has the secret: `core.amendments`
compares the sender with the target's author.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Final, NamedTuple

import msgspec

from wad.core.content import AMENDING, Content, MessageKind
from wad.core.jid import Jid
from wad.core.message import TEXT_LIMIT
from wad.core.text import cut
from wad.worker.message_secrets import MessageSecret, MessageSecrets
from wad.worker.protobuf import DecodeError
from wad.worker.translate.base import (
    Untranslatable,
    address,
    ident_or_none,
    jid_or_none,
    milliseconds_or_0,
)
from wad.worker.translate.content import content_of, reaction_text, unwrap
from wad.worker.translate.targets import author_in_key

_IV_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LARGEST: Final = 1 << 20  # bytes of a payload; a text has at most 256 KiB
_EVENT_EDIT, _MESSAGE_EDIT, _POLL_EDIT, _POLL_OPTION = (
    1,
    2,
    4,
    5,
)  # SecretEncryptedMessage.SecretEncType
_NO_NEW_CONTENT: Final = AMENDING | {MessageKind.NOTICE}
_EDIT_LABELS: Final = {
    _EVENT_EDIT: ("Event Edit",),
    _MESSAGE_EDIT: ("Message Edit",),
    _POLL_EDIT: ("Poll Edit",),
    # whatsmeow names one label for it and uses the other.
    _POLL_OPTION: ("Poll Edit", "Poll Add Option"),
}


class _Sealed(NamedTuple):
    """A sealed part: the key of its target, the possible labels, and how to read the plaintext.

    `bound`: whether the target's id and the author are authenticated beside the payload.
    """

    key: Any
    payload: bytes
    iv: bytes
    labels: tuple[str, ...]
    read: Callable[[bytes, str], Content | None]
    bound: bool = False


class SealedBy(NamedTuple):
    """The known addresses of the author of a change, and those of its chat."""

    chat: tuple[Jid | None, ...]
    sender: tuple[Jid | None, ...]


def opened(event: Any, secrets: MessageSecrets) -> Content | None:
    """The content of a Message event with a sealed change; None for any other event, or if it cannot be opened."""
    source = event.Info.MessageSource
    chat, sender = ((source.Chat, source.RecipientAlt), (source.Sender, source.SenderAlt))
    by = SealedBy(tuple(map(jid_or_none, chat)), tuple(map(jid_or_none, sender)))
    return opened_message(event.Message, by, secrets)


def sealed_target(message: Any) -> str:
    """The id of the message that a sealed change in this waE2E.Message changes; empty for any other message."""
    sealed = _sealed(unwrap(message).body)
    return "" if sealed is None else ident_or_none(sealed.key, "ID")


def opened_message(message: Any, by: SealedBy, secrets: MessageSecrets) -> Content | None:
    """The content of a waE2E.Message with a sealed change; None for any other message, or if it cannot be opened."""
    body = unwrap(message).body
    sealed = _sealed(body)
    if sealed is None or len(sealed.iv) != _IV_BYTES:
        return None
    if not _TAG_BYTES <= len(sealed.payload) <= _LARGEST:
        return None
    target = ident_or_none(sealed.key, "ID")
    if not target:
        return None
    for secret in secrets.find(target):
        plain = _opened(sealed, target, secret, _editors(by), _authors(by, sealed, secrets.own))
        if plain is not None:
            try:
                return _with_author(sealed.read(plain, target), sealed.key, by)
            except (DecodeError, Untranslatable):
                return None
    return None


def _sealed(body: Any) -> _Sealed | None:
    if body.HasField("secretEncryptedMessage"):
        part = body.secretEncryptedMessage
        labels = _EDIT_LABELS.get(part.secretEncType, ())
        return _Sealed(
            part.targetMessageKey, part.encPayload, part.encIV, labels,
            lambda plain, target: _edit(_parsed(body, plain), target),
        )  # fmt: skip
    if body.HasField("encReactionMessage"):
        part = body.encReactionMessage
        return _Sealed(
            part.targetMessageKey, part.encPayload, part.encIV, ("Enc Reaction",),
            lambda plain, target: _reaction(_parsed(body.reactionMessage, plain), target),
        )  # fmt: skip
    if body.HasField("encCommentMessage"):
        part = body.encCommentMessage
        return _Sealed(
            part.targetMessageKey, part.encPayload, part.encIV, ("Enc Comment",),
            lambda plain, target: _comment(_parsed(body, plain), target),
        )  # fmt: skip
    if body.HasField("encEventResponseMessage"):
        part = body.encEventResponseMessage
        return _Sealed(
            part.eventCreationMessageKey, part.encPayload, part.encIV, ("Event Response",),
            lambda plain, target: Content(
                MessageKind.NOTICE, target=target, detail="an answer to an event"
            ),
            bound=True,
        )  # fmt: skip
    return None


def _parsed(like: Any, plain: bytes) -> Any:
    return type(like).FromString(plain)


# --- the seal -------------------------------------------------------------------------------------


def _editors(by: SealedBy) -> list[str]:
    """The addresses of the author of the change."""
    return _distinct(map(_bare, by.sender))


def _authors(by: SealedBy, sealed: _Sealed, own: tuple[str, ...]) -> list[str]:
    """Possible addresses of the target's author; the key's are written from the sender's point of view."""
    key = (address(sealed.key, "participant"), address(sealed.key, "remoteJID"))
    return _distinct((*_editors(by), *map(_bare, key), *map(_bare, by.chat), *own))


def _with_author(content: Content | None, key: Any, by: SealedBy) -> Content | None:
    """An amendment with the author of its target, as far as it names one."""
    chat, sender = by.chat[0], by.sender[0]
    if content is None or content.kind not in AMENDING or chat is None or sender is None:
        return content
    return msgspec.structs.replace(content, target_by=author_in_key(key, chat, sender))


def _bare(found: Jid | None) -> str:
    return "" if found is None else str(found.party())


def _distinct(found: Any) -> list[str]:
    return [one for one in dict.fromkeys(found) if one]


def _opened(
    sealed: _Sealed, target: str, secret: MessageSecret, editors: list[str], authors: list[str]
) -> bytes | None:
    """The plaintext, if one of the combinations fits."""
    tried = _combinations(sealed, _distinct((*secret.authors, *authors)), editors)
    for author, editor, label in tried:
        # An address in the session's file may be invalid: it fits no seal.
        info = f"{target}{author}{editor}{label}".encode(errors="replace")
        bound = f"{target}\0{editor}".encode(errors="replace") if sealed.bound else None
        plain = _decrypted(secret.key, info, sealed, bound)
        if plain is not None:
            return plain
    return None


def _combinations(
    sealed: _Sealed, authors: list[str], editors: list[str]
) -> Iterator[tuple[str, str, str]]:
    return product(authors, editors, sealed.labels)


def _decrypted(secret: bytes, info: bytes, sealed: _Sealed, bound: bytes | None) -> bytes | None:
    # Imported with the first sealed change: 3 MB that most workers do not need.
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    key = HKDF(SHA256(), 32, salt=None, info=info).derive(secret)
    try:
        return AESGCM(key).decrypt(sealed.iv, sealed.payload, bound)
    except InvalidTag:
        return None


# --- the plaintext --------------------------------------------------------------------------------


def _edit(message: Any, target: str) -> Content | None:
    """An edit: either the new content itself, or an ordinary edit, whose target is the envelope's in any case."""
    unwrapped, told_ms = unwrap(message), 0
    protocol = unwrapped.body.protocolMessage
    if protocol.HasField("editedMessage"):
        unwrapped, told_ms = unwrap(protocol.editedMessage), milliseconds_or_0(protocol.timestampMS)
    content = content_of(unwrapped)
    if content is None or content.kind in _NO_NEW_CONTENT:
        return None
    return Content(
        MessageKind.EDIT,
        cut(content.text, TEXT_LIMIT),
        target=target,
        mentions=content.mentions,
        link=content.link,
        poll=content.poll,
        told_ms=told_ms,
    )


def _reaction(reaction: Any, target: str) -> Content:
    at_ms = milliseconds_or_0(reaction.senderTimestampMS)
    return Content(MessageKind.REACTION, reaction_text(reaction), target=target, told_ms=at_ms)


def _comment(message: Any, target: str) -> Content | None:
    content = content_of(unwrap(message))
    return None if content is None else msgspec.structs.replace(content, target=target)
