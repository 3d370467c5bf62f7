"""Documents in Firestore: any program with a key may have written them, with any field types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from google.cloud.firestore_v1._helpers import encode_dict
from google.protobuf.message import DecodeError

from tests.firestore.values import Document
from tests.fuzz.target import target
from wad.audit.firestore import decode as audited
from wad.core.errors import BadInput
from wad.core.lease import Record, Tenure
from wad.core.outbox import Entry
from wad.core.outgoing import Text
from wad.core.session_location import SessionLocation
from wad.store.app_documents import message_fields
from wad.store.firestore.client.decode import Snapshot, snapshot_of
from wad.store.firestore.documents import legacy, outbox
from wad.store.firestore.documents.decode import read_document
from wad.store.firestore.lease import document as record
from wad.store.firestore.lease import session_registry

_ROOT: Final = "projects/p/databases/(default)/documents/"
_NOW: Final = 1_700_000_000_000  # ms
_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
_THREAD: Final = "acc-1__15550000002@s.whatsapp.net"


def _seeds() -> Sequence[bytes]:
    entry = Entry(
        id="e1", account="acc-1", thread=_THREAD, to="15550000002@s.whatsapp.net", content=Text("hi"),
        client_id="c", secret=b"", created_ms=_NOW,
    )  # fmt: skip
    held = Record(holder="a", nonce="n", epoch=3, ttl=15.0, acquired_ms=_NOW, renewed_ms=_NOW)
    tenure = Tenure(epoch=3, holder="a", nonce="n", began_ms=_NOW, reason="x")
    place = SessionLocation(account="acc-1", instance="a", since_ms=_NOW, name="Shop")
    written: dict[str, Mapping[str, Any]] = {
        "outbox/e1": outbox.new_entry_fields(entry),
        "outbox/e2": {
            "requestId": "e2", "accountId": "acc-1", "threadId": _THREAD, "toJid": "15550000002@s.whatsapp.net",
            "body": "hi", "payload": {"text": "hi"}, "status": "queued", "createdAt": _TIME, "clientMessageId": "c",
        },
        f"threads/{_THREAD}/messages/m1": {
            "accountId": "acc-1", "direction": "inbound", "body": "x", "messageType": "image", "status": "read",
            "key": {"id": "3EB0", "participant": "1@s.whatsapp.net", "remoteJid": "1@g.us", "fromMe": False},
            "waMessageId": "3EB0", "tsClient": _TIME, "tsClientMs": _NOW, "createdAt": "2026-01-01T00:00:00Z",
            "media": {"mimetype": "image/png", "sizeBytes": 12, "url": "u", "storagePath": "p", "filename": "f"},
        },
        f"threads/{_THREAD}": {"accountId": "acc-1", "lastMessageAt": _TIME, "unreadCount": 3, "redirectTo": "x"},
        "jid_aliases/acc-1__9@lid": {"accountId": "acc-1", "rawJid": "9@lid", "canonicalJid": "1@s.whatsapp.net"},
        "wa_metrics/longrun/locks/wa_connection": record.document_of(held, _NOW),
        "wa_metrics/longrun/locks/wa_connection/history/3": record.tenure_document(tenure),
        "wa_metrics/longrun/locks/wa_connection/places/acc-1": msgspec.to_builtins(place),
    }  # fmt: skip
    found = []
    for path, fields in written.items():
        document = Document(name=_ROOT + path)
        for name, value in encode_dict(fields).items():
            document.fields[name].CopyFrom(value._pb)
        document.update_time.seconds = _NOW // 1000
        found.append(document.SerializeToString())
    return found


def _read(snapshot: Snapshot) -> None:
    fields = snapshot.fields
    with suppress(BadInput):
        read_document(snapshot)
    with suppress(BadInput):
        outbox.entry_of(snapshot.id, fields, _NOW)
    with suppress(BadInput):
        record.tenure_of(fields)
    with suppress(BadInput):
        session_registry._location_of(snapshot)
    record.state_of(fields)
    held = record.record_of(fields, 3.0, _NOW, 5)
    assert held.epoch >= 5
    legacy.wa_ids(fields)
    legacy.is_legacy(snapshot.id, fields)
    with suppress(BadInput):
        message_fields(legacy.message_of(_THREAD, snapshot.id, "3EB0", fields))
    place = audited.location_of(snapshot.path)
    if place is not None:
        audited.message_row(place, fields)
    audited.thread_row(_THREAD, fields)
    audited.redirect_of(_THREAD, fields)


@target(weight=30, seeds=_seeds)
def documents(_directory: Path) -> Iterator[Callable[[bytes], None]]:
    """Every reader accepts every document, or refuses it with BadInput."""

    def attempt(data: bytes) -> None:
        with suppress(DecodeError):
            document = Document.FromString(data)
            _read(snapshot_of(document))

    yield attempt
