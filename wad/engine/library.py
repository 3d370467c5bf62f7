"""neonize, tamed: the only module that imports it, used only inside a worker process.

What it hides (facts and measurements: engine.md):
- the database is one file per account, opened with WAL, immediate transactions and full synchronisation (2);
- events are taken as raw bytes before any parsing, so that nothing the library hands over can be dropped unseen (4);
- the outcome of a pairing comes through a private hook, as there is no other way (3);
- what goes out is a protobuf of ours: a plain string would be scanned for mentions and links (5);
- its logging is silenced before the import and before connect (1).
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote

logging.getLogger("neonize").setLevel(logging.WARNING)
logging.getLogger("whatsmeow").setLevel(logging.WARNING)

from neonize import events  # noqa: E402
from neonize.client import NewClient  # noqa: E402
from neonize.exc import NeonizeError  # noqa: E402
from neonize.proto import Neonize_pb2  # noqa: E402
from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps  # noqa: E402
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message  # noqa: E402
from neonize.utils.enum import MediaType  # noqa: E402
from neonize.utils.log import log as neonize_log  # noqa: E402

from wad.core.errors import EngineFailure  # noqa: E402
from wad.core.jid import Jid  # noqa: E402

neonize_log.setLevel(logging.WARNING)
logging.getLogger("neonize.utils.log").setLevel(logging.WARNING)

SUBSCRIBED = (
    events.ConnectedEv, events.DisconnectedEv, events.KeepAliveTimeoutEv, events.KeepAliveRestoredEv,
    events.LoggedOutEv, events.StreamReplacedEv, events.TemporaryBanEv, events.ConnectFailureEv,
    events.ClientOutdatedEv, events.StreamErrorEv, events.HistorySyncEv, events.MessageEv, events.ReceiptEv,
    events.UndecryptableMessageEv,
)  # fmt: skip

_NAMES = {code: kind.__name__ for kind, code in events.EVENT_TO_INT.items()}


class _Client(NewClient):  # type: ignore[misc]
    on_status: Callable[[str], None]

    def _NewClient__onLoginStatus(self, uuid: int, status: int) -> None:  # noqa: N802, a private name of theirs
        self.on_status(ctypes.string_at(status).decode(errors="replace"))


class Library:
    """One account's client.  `on_event(name, raw)` and `on_status(word)` run on threads of the library.

    Event names are the protobuf's: `Message`, `Receipt`, `Connected`, ...
    """

    def __init__(
        self,
        database: Path,
        account: str,
        device_name: str,
        *,
        on_event: Callable[[str, bytes], None],
        on_qr: Callable[[str], None],
        on_status: Callable[[str], None],
    ) -> None:
        self._client = _Client(
            _dsn(database),
            uuid=account,
            props=DeviceProps(os=device_name, platformType=DeviceProps.DESKTOP),
        )
        self._client.on_status = on_status
        self._client.event.qr(lambda _client, code: on_qr(code.decode()))
        self._client.event.list_func = dict.fromkeys(
            events.EVENT_TO_INT[kind] for kind in SUBSCRIBED
        )

        def execute(_uuid: int, address: int, size: int, code: int) -> None:
            on_event(_NAMES.get(code, f"event {code}"), ctypes.string_at(address, size))

        self._client.event.execute = execute

    def connect(self) -> None:
        """Connect and stay; returns only when the client is done for.  Raises EngineFailure."""
        try:
            self._client.connect()
        except NeonizeError as error:
            raise EngineFailure(str(error)) from error

    def is_connected(self) -> bool:
        """Whether the socket is open.  May block while the library dials (engine.md 3)."""
        return bool(self._client.is_connected)

    def send(self, to: Jid, message: Any) -> tuple[str, int]:
        """Send a blank() that was filled; gives WhatsApp's id and its time in ms.

        Raises EngineFailure with the library's words.
        """
        try:
            response = self._client.send_message(_proto_jid(to), message)
        except NeonizeError as error:
            raise EngineFailure(str(error)) from error
        return response.ID, response.Timestamp * 1000

    def upload(self, data: bytes, media_type: int) -> Any:
        """Encrypt a file and put it on WhatsApp's server; an UploadResponse.  May hang.  Raises EngineFailure.

        Bytes, never a text: that would be fetched as a path or URL (engine.md 5).
        """
        try:
            return self._client.upload(data, MediaType(media_type))
        except NeonizeError as error:
            raise EngineFailure(str(error)) from error

    def on_whatsapp(self, phones: Collection[str]) -> dict[str, bool]:
        """Which of these numbers (digits) have WhatsApp.  Raises EngineFailure."""
        try:
            answers = self._client.is_on_whatsapp(*(f"+{phone}" for phone in phones))
        except NeonizeError as error:
            raise EngineFailure(str(error)) from error
        return {answer.Query.lstrip("+"): bool(answer.IsIn) for answer in answers}

    def log_out(self) -> None:
        """Make WhatsApp forget this device.  Raises EngineFailure."""
        try:
            self._client.logout()
        except NeonizeError as error:
            raise EngineFailure(str(error)) from error

    def disconnect(self) -> None:
        """Close the socket; events that have arrived are still handed out."""
        self._client.disconnect()

    def stop(self) -> None:
        """Give up the client; events that were not handed out yet are dropped."""
        self._client.stop()


def blank() -> Any:
    """An empty waE2E.Message."""
    return Message()


def parse(name: str, raw: bytes) -> Any:
    """The protobuf object of an event.  Raises google.protobuf.message.DecodeError."""
    return getattr(Neonize_pb2, name).FromString(raw)


def _dsn(database: Path) -> str:
    # The library appends "?_foreign_keys=on" to what it is given; the last parameter takes that up (engine.md 2).
    options = "_foreign_keys=on&_journal_mode=WAL&_busy_timeout=10000&_txlock=immediate&_synchronous=FULL&_x="
    return f"{quote(str(database))}?{options}"


def _proto_jid(jid: Jid) -> Any:
    return Neonize_pb2.JID(
        User=jid.user, Server=jid.server, Device=jid.device, RawAgent=0, Integrator=0, IsEmpty=False
    )
