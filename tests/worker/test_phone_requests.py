"""Requests to the account's phone: what is patched in the library for them, and their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.whatsapp.golib import library_path
from wad.core.addresses import Addresses
from wad.core.change import PutMessage
from wad.core.content import Call, CallOutcome, Content, MessageKind
from wad.core.event import MessageReceived
from wad.core.history import KnownMessage, phone_key
from wad.core.jid import Jid
from wad.core.message import Message
from wad.core.plan import plan
from wad.worker import phone_requests
from wad.worker.library import blank
from wad.worker.patching import NotThisBuild

BOB = Jid.parse("15550000012@s.whatsapp.net")
GROUP = Jid.parse("123-456@g.us")


def test_the_patch_sites_change_the_field_that_is_read() -> None:
    """The instruction stays, its offset on the stack becomes that of Integrator; and one instruction sets it."""
    *tests, ours = [site for site in phone_requests.PATCH_SITES if site.before[0] in (0x80, 0x44)]
    for site in tests:
        assert site.before.replace(b"\xe0\x03\0\0", b"\xec\x07\0\0") == site.after
    assert ours.after.startswith(b"\x41\xba" + (1).to_bytes(4, "little"))
    *tests, ours = phone_requests.PATCH_SITES[4:]
    for site in tests:
        before, after = (int.from_bytes(code, "little") for code in (site.before, site.after))
        assert (before >> 10 & 0xFFF, after >> 10 & 0xFFF) == (0x258, 0x754)
        assert before & ~(0xFFF << 10) == after & ~(0xFFF << 10)
    assert int.from_bytes(ours.after, "little") == 0x52800000 | 1 << 5 | 14  # movz w14, #1
    assert all(len(site.before) == len(site.after) for site in phone_requests.PATCH_SITES)


def test_the_installed_library_is_known() -> None:
    """An upgrade of neonize needs new patch sites, or no requests are possible (docs/upstream.md says how)."""
    digest = hashlib.sha256(library_path().read_bytes()).hexdigest()
    assert digest in {site.sha256 for site in phone_requests.PATCH_SITES}


def test_the_patch_sites_are_in_the_file() -> None:
    """The instructions to patch are in the file, before anything is loaded."""
    data = library_path().read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    for site in (site for site in phone_requests.PATCH_SITES if site.sha256 == digest):
        assert data[site.address : site.address + len(site.before)] == site.before


def test_another_file_is_refused(tmp_path: Path) -> None:
    """Nothing is read in memory, let alone changed."""
    file = tmp_path / "neonize-linux-amd64.so"
    file.write_bytes(b"another build")
    with pytest.raises(NotThisBuild, match="unknown build"):
        phone_requests.enable_peer_messages(file)


# --- the requests -------------------------------------------------------------------------------


def test_a_request_for_history() -> None:
    """whatsmeow's BuildHistorySyncRequest, field by field; the time is in seconds, despite its name."""
    message = blank()
    phone_requests.ask_history(message, KnownMessage(BOB, "A1", True, 1_700_000_000_123), 50)
    asked = message.protocolMessage
    request = asked.peerDataOperationRequestMessage
    assert (asked.type, request.peerDataOperationRequestType) == (16, 3)
    history = request.historySyncOnDemandRequest
    assert (history.chatJID, history.oldestMsgID, history.oldestMsgFromMe) == (str(BOB), "A1", True)
    assert (history.onDemandMsgCount, history.oldestMsgTimestampMS) == (50, 1_700_000_000)


def test_a_request_for_messages() -> None:
    """whatsmeow's BuildUnavailableMessageRequest; the sender is named only in a group."""
    message = blank()
    phone_requests.ask_messages(
        message,
        [
            KnownMessage(BOB, "A1", False, 1, BOB),
            KnownMessage(GROUP, "A2", False, 2, BOB),
            KnownMessage(GROUP, "A3", True, 3),
        ],
    )
    request = message.protocolMessage.peerDataOperationRequestMessage
    assert request.peerDataOperationRequestType == 4
    keys = [one.messageKey for one in request.placeholderMessageResendRequest]
    assert [(k.remoteJID, k.ID, k.fromMe, k.participant) for k in keys] == [
        (str(BOB), "A1", False, ""), (str(GROUP), "A2", False, str(BOB)), (str(GROUP), "A3", True, ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "one", [KnownMessage(BOB, "A1", True, 5), KnownMessage(GROUP, "A2", False, 6, BOB)]
)
def test_it_can_be_serialized(one: KnownMessage) -> None:
    """As it is."""
    assert KnownMessage.from_wire(one.to_wire()) == one


def stored(chat: Jid, content: Content, ident: str = "A1") -> Message:
    """A message as it is stored."""
    changes = plan("acc", MessageReceived(ident, chat, BOB, 1000, content), Addresses())
    (put,) = [change for change in changes if isinstance(change, PutMessage)]
    return put.message


def test_the_data_of_a_phone() -> None:
    """Messages of persons and groups; no statuses and channels, no calls, no messages without an id."""
    text = Content(MessageKind.TEXT, "hi")
    assert phone_key(stored(BOB, text)) == KnownMessage(BOB, "A1", False, 1000)
    assert phone_key(stored(GROUP, text)) == KnownMessage(GROUP, "A1", False, 1000, BOB)
    for chat in ("status@broadcast", "12345@newsletter"):
        assert phone_key(stored(Jid.parse(chat), text)) is None
    missed = Content(MessageKind.CALL, call=Call(CallOutcome.MISSED))
    assert phone_key(stored(BOB, missed)) is None
