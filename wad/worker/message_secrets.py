"""The secrets of messages: 32 bytes that a sender puts into a message, and that seal later changes of it.

The newest are in memory: of the session's database, as it was before the library opened it (a worker must not open it
later: wad/engine/lost_messages.py), and of everything that arrived or was sent since.  Older ones are in the bytes that
the spool keeps of each message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from wad.core.errors import BadJid
from wad.core.jid import Jid
from wad.engine import session_db
from wad.state.account_dir import AccountDir
from wad.state.spool import Spool
from wad.worker.library import parse
from wad.worker.protobuf import DecodeError
from wad.worker.translate.base import address, ident_or_none, jid_or_none

LIMIT: Final = 1000
"""Secrets in memory, about 300 bytes each."""
_BYTES: Final = 32
_OF_EACH_CHAT: Final = 20  # messages of a chunk of history


class MessageSecret(NamedTuple):
    """The secret of one message, and the addresses of its author, without devices."""

    key: bytes
    authors: tuple[str, ...]


class MessageSecrets:
    """The known secrets by the message's WhatsApp id.  Safe to use from several threads.

    `stored(wa_id)` returns the Message events with this id that the spool has, parsed.  `own` are the account's own
    addresses.
    """

    def __init__(
        self, stored: Callable[[str], Iterable[Any]] = lambda _: (), own: tuple[str, ...] = ()
    ) -> None:
        self._stored = stored
        self.own = own
        self._known: dict[str, tuple[MessageSecret, ...]] = {}
        self._lock = threading.Lock()

    def add(self, wa_id: str, secret: MessageSecret) -> None:
        """Remember a secret.  An id is not unique: another sender may choose the same."""
        if not wa_id or len(secret.key) != _BYTES:
            return
        with self._lock:
            others = self._known.pop(wa_id, ())
            # Of many with one id the oldest and the newest few count.
            self._known[wa_id] = tuple(dict.fromkeys((*others[:3], secret)))
            while len(self._known) > LIMIT:
                del self._known[next(iter(self._known))]

    def add_event(self, event: Any) -> None:
        """Remember the secret of a Message event, if it has one."""
        for wa_id, secret in _secrets_of(event):
            self.add(wa_id, secret)

    def add_history(self, event: Any, wanted: Collection[str] = ()) -> None:
        """Remember the secrets of the newest messages of each chat in a HistorySync, and of those with `wanted` ids."""
        for conversation in event.Data.conversations:
            # The phone sends the newest first.
            older = conversation.messages[_OF_EACH_CHAT:] if wanted else ()
            items = (
                *(one for one in older if ident_or_none(one.message.key, "ID") in wanted),
                *reversed(conversation.messages[:_OF_EACH_CHAT]),
            )
            for item in items:
                message = item.message
                key = message.messageSecret or message.message.messageContextInfo.messageSecret
                if len(key) == _BYTES:
                    self.add(
                        ident_or_none(message.key, "ID"),
                        MessageSecret(key, self._authors(message, conversation)),
                    )

    def _authors(self, message: Any, conversation: Any) -> tuple[str, ...]:
        if message.key.fromMe:
            return self.own
        named = (address(message.key, "participant"), address(message, "participant"))
        chat = (address(conversation, name) for name in ("ID", "lidJID", "pnJID"))
        return tuple(
            str(one.bare()) for one in (*named, *chat) if one is not None and one.is_person
        )

    def add_sent(self, wa_id: str, key: bytes, me: str) -> None:
        """Remember the secret of a message that this account sent."""
        self.add(wa_id, MessageSecret(key, tuple(dict.fromkeys((me, *self.own)))))

    def find(self, wa_id: str) -> Iterator[MessageSecret]:
        """The secrets of the messages with this id.

        Those in memory first, and then those in the spool: a stranger who sends an old id again must not hide its
        first secret.
        """
        with self._lock:
            known = self._known.get(wa_id, ())
        yield from known
        for event in self._stored(wa_id):
            yield from (secret for _, secret in _secrets_of(event) if secret not in known)


def _secrets_of(event: Any) -> Iterator[tuple[str, MessageSecret]]:
    source, wa_id = event.Info.MessageSource, ident_or_none(event.Info, "ID")
    authors = tuple(
        str(found.bare())
        for one in (source.Sender, source.SenderAlt)
        if (found := jid_or_none(one)) is not None
    )
    for message in (event.Message, event.Message.deviceSentMessage.message):
        key = message.messageContextInfo.messageSecret
        if len(key) == _BYTES:
            yield wa_id, MessageSecret(key, authors)


def known_secrets(account_dir: AccountDir, spool: Spool) -> MessageSecrets:
    """The secrets of the session's database and of the spool; before the library opens the database.

    Raises Damaged, Unavailable, EngineFailure.
    """
    owner = session_db.identity(account_dir.session_db)
    own = tuple(_bare(one) for one in (owner.jid, owner.lid) if one)
    found = MessageSecrets(partial(_stored_messages, spool), own)
    for secret in session_db.newest_secrets(account_dir.session_db, LIMIT):
        found.add(secret.wa_id, MessageSecret(secret.key, (secret.sender,)))
    return found


def _bare(text: str) -> str:
    """An address without device; an invalid one, of a file that others may write, stays as it is and fits no seal."""
    try:
        return str(Jid.parse(text).bare())
    except BadJid:
        return text


def _stored_messages(spool: Spool, wa_id: str) -> Iterator[Any]:
    for raw in spool.raw_with_id(wa_id, "message"):
        with suppress(DecodeError):
            yield parse("Message", raw)
