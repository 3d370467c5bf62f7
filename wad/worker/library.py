"""The client of one account: the only module that imports neonize, used only inside a worker process.

What it hides (docs/internals/library.md#loading and the sections after it):
- of neonize's Python only the descriptions of its messages are imported; its own package would load 22 MB more, start
  processes and threads, and access the network if its library is missing;
- the database is one file per account, opened with WAL, immediate transactions and full synchronisation;
- events are taken as raw bytes before any parsing, so that nothing that the library hands over is dropped silently;
- outgoing messages are protobufs made here, and bytes: a text would be scanned, fetched as a path or as an address.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import sys
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any, Final

from wad.core.errors import EngineFailure
from wad.core.jid import Jid, JidKind
from wad.core.library_errors import refused_version
from wad.core.outgoing import GroupRole
from wad.core.send_result import is_not_in
from wad.worker.addressing import Members
from wad.worker.c_interface import Functions, dsn, package
from wad.worker.protobuf import builder, descriptor_pool, message_factory
from wad.worker.translate.base import exact, ident_or_none, jid_or_none, shown, unmended


def _import_descriptions() -> None:
    """Import neonize's descriptions of its messages, and nothing more; none of its modules stays loaded.

    During the import `neonize` is a plain directory: importing from it runs no `neonize/__init__.py`.  The generated
    modules would make a Python class for each of a thousand messages; without their builders they only describe the
    messages, and `_class` makes the classes that are used.
    """
    before = dict(sys.modules)
    spec = importlib.machinery.ModuleSpec("neonize", None, is_package=True)
    spec.submodule_search_locations = [str(package())]
    builders = ("BuildMessageAndEnumDescriptors", "BuildTopDescriptorsAndMessages")
    originals = [getattr(builder, name) for name in builders]
    try:
        for name in [name for name in before if name.partition(".")[0] == "neonize"]:
            del sys.modules[name]
        sys.modules["neonize"] = importlib.util.module_from_spec(spec)
        for name in builders:
            setattr(builder, name, lambda *_arguments: None)
        importlib.import_module("neonize.proto.Neonize_pb2")
    finally:
        for name, original in zip(builders, originals, strict=True):
            setattr(builder, name, original)
        for name in sys.modules.keys() - before.keys():
            if name.partition(".")[0] == "neonize" or (name.startswith("wa") and "_pb2" in name):
                del sys.modules[name]
        sys.modules.update(before)


_import_descriptions()


@cache
def _class(name: str) -> Any:
    """The protobuf class of this full name."""
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(name))


log = logging.getLogger("wad.whatsmeow")

EVENTS: Final = {
    3: "Connected", 4: "KeepAliveTimeout", 5: "KeepAliveRestored", 6: "LoggedOut", 7: "StreamReplaced",
    8: "TemporaryBan", 9: "ConnectFailure", 10: "ClientOutdated", 11: "StreamError", 12: "Disconnected",
    13: "HistorySync", 17: "Message", 18: "Receipt", 21: "JoinedGroup", 22: "GroupInfoEvent",
    27: "OfflineSyncCompleted", 36: "CallOffer", 40: "CallOfferNotice", 42: "CallTerminate", 44: "UndecryptableMessage",
}  # fmt: skip
"""The requested events, and their numbers (neonize/events.py, EVENT_TO_INT)."""

_DESKTOP: Final = 7  # waCompanionReg.DeviceProps.PlatformType
_CHROME: Final = 1
"""whatsmeow's PairClientType.  WhatsApp accepts only known browsers, with a name of the form `Browser (OS)`."""


class Library:
    """The client of one account.  All callbacks run on threads of the library.

    `on_event(name, raw)`: names are the protobuf's, `Message`, `Receipt`, `Connected`, ...  `on_line(logger, text)`,
    if given, gets the library's log lines of every level as they are written.  They contain whole stanzas: they
    must not be stored or logged.
    """

    def __init__(
        self,
        functions: Functions,
        database: Path,
        account: str,
        device_name: str,
        *,
        on_event: Callable[[str, bytes], None],
        on_qr: Callable[[str], None],
        on_status: Callable[[str], None],
        on_line: Callable[[str, str], None] | None = None,
    ) -> None:
        self._functions = functions
        self._database = database
        self._uuid = account.encode()
        self._device_name = device_name
        self._on_event = on_event
        self._on_qr = on_qr
        self._on_status = on_status
        self._on_line = on_line
        self.refused_version = ""
        """The version of WhatsApp Web that WhatsApp refused, once it has."""

    def connect(self) -> None:
        """Connect and block; returns only when the client has ended.  Raises EngineFailure."""
        error = self._functions.run(
            dsn(self._database),
            self._uuid,
            _device_properties(self._device_name),
            log_level=b"WARN" if self._on_line is None else b"DEBUG",
            kinds=bytes(EVENTS),
            on_qr=self._qr,
            on_status=self._on_status,
            on_event=self._event,
            on_log=self._log,
        )
        if error:
            raise EngineFailure(error)

    def _qr(self, code: bytes) -> None:
        try:
            self._on_qr(code.decode())
        except UnicodeDecodeError:  # it could not be scanned; the next one follows in 20 s
            log.warning("the library made a QR code that is not valid text")

    def _event(self, kind: int, raw: bytes) -> None:
        if kind in EVENTS:  # number 0, the account's identity, is sent without a request
            self._on_event(EVENTS[kind], raw)

    def _log(self, raw: bytes) -> None:
        entry = _class("neonize.LogEntry").FromString(raw)
        if self._on_line is not None:
            self._on_line(unmended(entry, "Name"), unmended(entry, "Message"))
        if unmended(entry, "Level") not in ("DEBUG", "INFO"):
            text = shown(entry, "Message")
            log.warning("%s: %s", exact(entry, "Name"), text)
            self.refused_version = refused_version(text) or self.refused_version

    def is_connected(self) -> bool:
        """Whether the socket is open.  May block while the library dials.

        See docs/internals/library.md#connecting-and-stopping.
        """
        return self._functions.is_connected(self._uuid)

    def send(self, to: Jid, message: Any) -> tuple[str, int, str]:
        """Send a filled blank(); returns WhatsApp's id, its time in ms, and the recipient's LID (empty: none).

        Raises EngineFailure with the library's error text.
        """
        answer = _class("neonize.SendMessageReturnFunction").FromString(
            self._functions.send_message(
                self._uuid, _proto_jid(to).SerializeToString(), message.SerializeToString()
            )
        )
        _check(answer)
        wa_id = ident_or_none(answer.SendResponse, "ID")
        if not wa_id:
            raise EngineFailure("the library gave the message an invalid id")
        chat = jid_or_none(answer.SendResponse.Chat)
        lid = str(chat.bare()) if chat is not None and chat.kind is JidKind.LID else ""
        return wa_id, answer.SendResponse.Timestamp * 1000, lid

    def send_to_phone(self, me: Jid, message: Any) -> None:
        """Send a filled blank() to the account's phone, whose number is `me`.  Raises EngineFailure.

        Only after `phone_requests.enable_peer_messages`: otherwise it would be an ordinary message to ourselves.
        """
        phone = _proto_jid(me)
        phone.Integrator = 1
        answer = _class("neonize.SendMessageReturnFunction").FromString(
            self._functions.send_message(
                self._uuid, phone.SerializeToString(), message.SerializeToString()
            )
        )
        _check(answer)

    def read_vote(self, raw: bytes) -> tuple[bytes, ...]:
        """The SHA-256 of each option that a Message event votes for.  Raises EngineFailure."""
        answer = _class("neonize.ReturnFunctionWithError").FromString(
            self._functions.decrypt_poll_vote(self._uuid, raw)
        )
        _check(answer)
        return tuple(answer.PollVoteMessage.selectedOptions)

    def upload(self, data: bytes, media_type: int) -> Any:
        """Encrypt a file and upload it to WhatsApp's server; an UploadResponse.  May hang.  Raises EngineFailure."""
        answer = _class("neonize.UploadReturnFunction").FromString(
            self._functions.upload(self._uuid, data, media_type)
        )
        _check(answer)
        return answer.UploadResponse

    def find_number(self, phone: str) -> tuple[Jid | None, Jid | None] | None:
        """The LID and the number under which WhatsApp knows a number (digits); None if it is not there.

        WhatsApp answers with the LID, and in its own spelling of the number, which the library stores and neonize does
        not pass on (docs/internals/whatsapp-protocol.md#numbers).  Raises EngineFailure.
        """
        answer = _class("neonize.IsOnWhatsAppReturnFunction").FromString(
            self._functions.is_on_whatsapp(self._uuid, f"+{phone}".encode())
        )
        _check(answer)
        found = [one.JID for one in answer.IsOnWhatsAppResponse if one.IsIn]
        jid = jid_or_none(found[0]) if found else None
        if jid is None:
            if found:
                raise EngineFailure("WhatsApp knows the number under an invalid address")
            return None
        return (jid, self.other_address(jid)) if jid.kind is JidKind.LID else (None, jid)

    def group_role(self, group: Jid, me: Collection[str]) -> GroupRole:
        """Our role in a group, in which we have these names (a number, a LID).  Raises EngineFailure."""
        answer = self._group_info(group)
        if is_not_in(shown(answer, "Error")):
            return GroupRole.NOT_IN
        _check(answer)
        info = answer.GroupInfo
        ours = [one for one in info.Participants if _names(one) & set(me)]
        if not ours:
            return GroupRole.NOT_IN
        admin = any(one.IsAdmin or one.IsSuperAdmin for one in ours)
        return GroupRole.READER if info.GroupAnnounce.IsAnnounce and not admin else GroupRole.MEMBER

    def pairing_code(self, phone: str) -> str:
        """A code to enter on the phone with this number (digits), which gets a notification.  Raises EngineFailure.

        Valid only after the first QR code was shown, and while further ones are.
        """
        params = _class("neonize.PairPhoneParams")(
            phone=phone,
            showPushNotification=True,
            clientType=_CHROME,
            clientDisplayName="Chrome (Linux)",
        )
        answer = _class("neonize.PairPhoneReturnFunction").FromString(
            self._functions.pair_phone(self._uuid, params.SerializeToString())
        )
        _check(answer)
        return exact(answer, "Code")

    def other_address(self, party: Jid) -> Jid | None:
        """The LID of a number, or the number of a LID, if the library knows it.  Only while the account is paired."""
        ask = self._functions.number_of if party.kind is JidKind.LID else self._functions.lid_of
        answer = _class("neonize.GetJIDFromStoreReturnFunction").FromString(
            ask(self._uuid, _proto_jid(party.party()).SerializeToString())
        )
        found = jid_or_none(answer.Jid)
        return None if found is None or found.kind is party.kind else found.party()

    def members(self, group: Jid) -> Members:
        """The members of a group, which WhatsApp is asked for.  Raises EngineFailure."""
        answer = self._group_info(group)
        _check(answer)
        other: dict[str, str] = {}
        by_lid = False
        for participant in answer.GroupInfo.Participants:
            main = jid_or_none(participant.JID)
            by_lid = by_lid or (main is not None and main.kind is JidKind.LID)
            named = (main, jid_or_none(participant.LID), jid_or_none(participant.PhoneNumber))
            kinds = {one.kind: str(one.party()) for one in named if one is not None}
            if JidKind.LID in kinds and JidKind.PN in kinds:
                lid, pn = kinds[JidKind.LID], kinds[JidKind.PN]
                other |= {lid: pn, pn: lid}
        return Members(by_lid, other)

    def _group_info(self, group: Jid) -> Any:
        return _class("neonize.GetGroupInfoReturnFunction").FromString(
            self._functions.group_info(self._uuid, _proto_jid(group).SerializeToString())
        )

    def log_out(self) -> None:
        """Make WhatsApp forget this device.  Raises EngineFailure."""
        if error := self._functions.log_out(self._uuid):
            raise EngineFailure(error)

    def disconnect(self) -> None:
        """Close the socket; events that have arrived are still handed over."""
        self._functions.disconnect(self._uuid)

    def stop(self) -> None:
        """Stop the client; events that were not handed over yet are dropped."""
        if error := self._functions.stop(self._uuid):
            log.warning("stop: %s", error)


def _names(participant: Any) -> set[str]:
    """The user parts of a participant's addresses."""
    addresses = (participant.JID, participant.LID, participant.PhoneNumber)
    return {shown(address, "User") for address in addresses}


def _check(answer: Any) -> None:
    """Raise EngineFailure with the library's error text if it refused."""
    if error := shown(answer, "Error"):
        raise EngineFailure(error)


def blank() -> Any:
    """An empty waE2E.Message."""
    return _class("WAWebProtobufsE2E.Message")()


def event_class(name: str) -> Any:
    """The protobuf class of an event."""
    return _class(f"neonize.{name}")


def parse(name: str, raw: bytes) -> Any:
    """The protobuf object of an event.  Raises google.protobuf.message.DecodeError."""
    return event_class(name).FromString(raw)


def _device_properties(name: str) -> bytes:
    """A waCompanionReg.DeviceProps: os = 1, platformType = 3.  Encoded here, since its classes would cost 0.5 MB."""
    text = name.encode()[:127].decode(errors="ignore").encode()
    return b"\x0a" + bytes([len(text)]) + text + b"\x18" + bytes([_DESKTOP])


def _proto_jid(jid: Jid) -> Any:
    return _class("neonize.JID")(
        User=jid.user, Server=jid.server, Device=jid.device, RawAgent=0, Integrator=0, IsEmpty=False
    )
