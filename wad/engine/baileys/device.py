"""creds.json: the device's identity, and its own keys.

Its field `registered` is useless: Baileys sets it only when it was linked by a code (seen: false after a QR code).
A device is linked if it has an address and the account's signature.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wad.core.baileys import CREDS
from wad.core.errors import BadInput, Conflict
from wad.engine.baileys.values import KEY, SIGNATURE, Value

_JID: Final = re.compile(
    r"(?P<user>[0-9]{5,20})(?:[._][0-9]{1,3})?:(?P<device>[0-9]{1,5})@s\.whatsapp\.net"
)
_LID: Final = re.compile(r"(?P<user>[0-9]{5,20})(?:[._][0-9]{1,3})?(?::[0-9]{1,5})?@lid")


@dataclass(frozen=True, slots=True)
class Device:
    """A row of `whatsmeow_device` (whatsmeow store/sqlstore/upgrades/00-latest-schema.sql).

    Keys are the private halves; `identity_public` is not in that row, but sessions name it.
    """

    jid: str
    lid: str
    phone: str
    push_name: str
    platform: str
    registration_id: int
    noise_key: bytes
    identity_key: bytes
    identity_public: bytes
    signed_pre_key: bytes
    signed_pre_key_id: int
    signed_pre_key_sig: bytes
    adv_key: bytes
    adv_details: bytes
    adv_account_sig: bytes
    adv_account_sig_key: bytes
    adv_device_sig: bytes


def device_of(data: bytes) -> Device:
    """The device of a creds.json.  Raises BadInput if it is malformed, Conflict if it was never linked."""
    creds = Value.parse(CREDS, data)
    me, account = creds.get("me"), creds.get("account")
    if me.missing or account.missing:
        raise Conflict(
            f"{CREDS}: this session was never linked with a phone",
            hint="there is nothing to import: wadctl account add NAME --pair",
        )
    user, number = _address(me)
    signed = creds.get("signedPreKey")
    identity = creds.get("signedIdentityKey")
    return Device(
        jid=f"{user}:{number}@s.whatsapp.net",
        lid=_hidden(me, number),
        phone=f"+{user}",
        push_name=me.get("name").text(),
        platform=creds.get("platform").text(64),
        registration_id=creds.get("registrationId").number(0, 0xFFFF_FFFF),
        noise_key=creds.get("noiseKey").get("private").octets(KEY),
        identity_key=identity.get("private").octets(KEY),
        identity_public=identity.get("public").public_key(),
        signed_pre_key=signed.get("keyPair").get("private").octets(KEY),
        signed_pre_key_id=signed.get("keyId").number(0, 0xFF_FFFF),
        signed_pre_key_sig=signed.get("signature").octets(SIGNATURE),
        adv_key=creds.get("advSecretKey").octets(KEY),
        adv_details=account.get("details").octets(),
        adv_account_sig=account.get("accountSignature").octets(SIGNATURE),
        adv_account_sig_key=account.get("accountSignatureKey").public_key(),
        adv_device_sig=account.get("deviceSignature").octets(SIGNATURE),
    )


def _address(me: Value) -> tuple[str, int]:
    """The phone number and the device number of `me.id`."""
    ident = me.get("id")
    found = _JID.fullmatch(ident.text())
    if found is None:
        ident.wrong("the address of a linked device, like 15550000001:7@s.whatsapp.net")
    number = int(found["device"])
    if number == 0:
        raise BadInput(f"{CREDS}: me.id is the phone itself, not a linked device")
    return found["user"], number


def _hidden(me: Value, number: int) -> str:
    """`me.lid` with its device; empty if Baileys did not know it yet: WhatsApp sends it at the next login."""
    lid = me.get("lid")
    if not lid.text():
        return ""
    found = _LID.fullmatch(lid.text())
    if found is None:
        lid.wrong("a LID, like 123456789012345:7@lid")
    return f"{found['user']}:{number}@lid"
