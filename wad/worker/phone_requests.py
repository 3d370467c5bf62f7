"""Requests to the account's own phone, which a linked device may send.

whatsmeow can send such a message (`SendPeerMessage`: one stanza of category `peer`, encrypted for the phone alone), and
does so itself to request app-state keys; neonize has no switch for it.  `enable_peer_messages` makes three tests of
`SendRequestExtra.Peer` in whatsmeow's `SendMessage` read another field, the recipient's `Integrator`, which only
addresses of other networks have and which is never set for WhatsApp addresses.  whatsmeow's own `SendPeerMessage` is
made to set that field, too, so that its messages stay the same.  From then on a recipient with an integrator is the
account's phone (`Library.send_to_phone`), and messages to all others are unchanged.

In an unknown build no requests are possible, and wad reports that.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from wad.core.history import KnownMessage
from wad.worker.patching import PatchSite, patch_library

_AMD64: Final = "56b0636515068e8f8383e5448b6cfd2516ea923fa6c68ce4a2e516da96ec405d"
_ARM64: Final = "25ea97e7c7933396a655e00a716f79da9095500cfb1cac053cb3addd82bd453c"
_PEER: Final = "80bc24e003000000"  # cmp byte ptr [rsp+0x3e0], 0: req.Peer
_INTEGRATOR: Final = "80bc24ec07000000"  # cmp byte ptr [rsp+0x7ec], 0: to.Integrator


def _site(sha256: str, address: int, before: str, after: str) -> PatchSite:
    return PatchSite(sha256, address, bytes.fromhex(before), bytes.fromhex(after))


PATCH_SITES: Final = (
    # neonize 0.5.2, amd64, (*Client).SendMessage: the number is not replaced by the LID; the message is not kept for
    # a recipient that cannot decrypt it; sendPeerMessage, not sendDM.
    _site(_AMD64, 0x6FFA26, _PEER, _INTEGRATOR),
    _site(_AMD64, 0x7004F6, _PEER, _INTEGRATOR),
    _site(_AMD64, 0x700AA6, _PEER, _INTEGRATOR),
    # (*Client).SendPeerMessage: movzx r10d, word ptr [rsp+0x1e4] (our JID's Integrator) -> mov r10d, 1; nop
    _site(_AMD64, 0x701A26, "440fb79424e4010000", "41ba010000000f1f00"),
    # neonize 0.5.2, arm64, the same: ldrb w, [sp, #0x258] -> [sp, #0x754]; ldrh w14, [sp, #0x1a4] -> mov w14, #1.
    # Found by disassembly; never seen to run.
    _site(_ARM64, 0x67CC44, "e3634939", "e3535d39"),
    _site(_ARM64, 0x67D4E8, "ef634939", "ef535d39"),
    _site(_ARM64, 0x67D930, "ee634939", "ee535d39"),
    _site(_ARM64, 0x67E5F8, "ee4b4379", "2e008052"),
)


def enable_peer_messages(file: Path) -> list[int]:
    """Let the loaded library send to the account's phone; returns the patched addresses.

    Raises NotThisBuild, EngineFailure (patching.patch_library).
    """
    return patch_library(file, PATCH_SITES)


# --- the requests -----------------------------------------------------------------------------------

_REQUEST: Final = 16  # waE2E.ProtocolMessage.Type PEER_DATA_OPERATION_REQUEST_MESSAGE


class _Request(IntEnum):
    """waE2E.PeerDataOperationRequestType."""

    HISTORY = 3
    MESSAGES = 4


def ask_history(message: Any, oldest: KnownMessage, count: int) -> None:
    """Fill an empty waE2E.Message: `count` messages before this one (whatsmeow send.go, BuildHistorySyncRequest)."""
    request = _request(message, _Request.HISTORY).historySyncOnDemandRequest
    request.chatJID = str(oldest.chat)
    request.oldestMsgID = oldest.wa_id
    request.oldestMsgFromMe = oldest.from_me
    request.onDemandMsgCount = count
    # Seconds, despite the name (same function).
    request.oldestMsgTimestampMS = oldest.at_ms // 1000


def ask_messages(message: Any, wanted: Collection[KnownMessage]) -> None:
    """Fill an empty waE2E.Message: request these messages (whatsmeow send.go, BuildUnavailableMessageRequest)."""
    request = _request(message, _Request.MESSAGES)
    for one in wanted:
        key = request.placeholderMessageResendRequest.add().messageKey
        key.remoteJID, key.ID, key.fromMe = str(one.chat), one.wa_id, one.from_me
        if one.sender is not None and not one.chat.is_person:
            key.participant = str(one.sender)


def _request(message: Any, kind: _Request) -> Any:
    message.protocolMessage.type = _REQUEST
    request = message.protocolMessage.peerDataOperationRequestMessage
    request.peerDataOperationRequestType = kind
    return request
