"""The small files: one-time keys, identities of others, LIDs, privacy tokens, keys of the app state."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from wad.core.baileys import BaileysFile, ident_of
from wad.core.errors import BadInput
from wad.engine.baileys.values import KEY, Value, from_base64

_ADDRESS: Final = re.compile(r"(?P<user>[0-9]{1,20}(?:_[0-9]{1,3})?)\.(?P<device>[0-9]{1,5})")
_USER: Final = re.compile(r"[0-9]{5,20}")
_REVERSE: Final = "_reverse"
_SECONDS: Final = 1 << 34
"""A time in seconds is less than this; in ms it is more."""


class PreKey(NamedTuple):
    """A one-time key that WhatsApp may have given to another device; its private half."""

    number: int
    key: bytes


class PeerIdentity(NamedTuple):
    """The identity key of another device; `address` is USER:DEVICE, as the library writes it."""

    address: str
    key: bytes


class PrivacyToken(NamedTuple):
    """The token that WhatsApp requires in a first message to a contact; times in seconds."""

    jid: str
    token: bytes
    at: int
    sender_at: int | None


class AppStateKey(NamedTuple):
    """A key of the account's synchronised settings and contacts; `at` in its original unit (s or ms)."""

    ident: bytes
    key: bytes
    at: int
    fingerprint: bytes


def address_of(name: str, kind: BaileysFile) -> str:
    """USER_DOMAIN.DEVICE of a file's name as libsignal-go's USER_DOMAIN:DEVICE.  Raises BadInput.

    Both number the domains alike: none for phone numbers, 1 for LIDs (whatsmeow types/jid.go, ActualAgent; Baileys
    lib/WABinary, WAJIDDomains).
    """
    found = _ADDRESS.fullmatch(ident_of(name, kind))
    if found is None:
        raise BadInput(
            f"{name} does not name a device", hint="the name should end in USER.DEVICE.json"
        )
    return f"{found['user']}:{int(found['device'])}"


def pre_key(name: str, data: bytes) -> PreKey:
    """The key in pre-key-N.json.  Raises BadInput."""
    number = Value(ident_of(name, BaileysFile.PRE_KEY), name, "its name").number(1, 0xFF_FFFF)
    return PreKey(number, Value.parse(name, data).get("private").octets(KEY))


def identity(name: str, data: bytes) -> PeerIdentity:
    """The identity in identity-key-USER.DEVICE.json.  Raises BadInput."""
    return PeerIdentity(
        address_of(name, BaileysFile.IDENTITY), Value.parse(name, data).public_key()
    )


def app_state_key(name: str, data: bytes) -> AppStateKey:
    """The key in app-state-sync-key-BASE64.json.  Raises BadInput."""
    ident = from_base64(ident_of(name, BaileysFile.APP_STATE_KEY).replace("__", "/"))
    if not ident:
        raise BadInput(f"{name} does not name a key: the name should end in base64")
    value = Value.parse(name, data)
    at = value.get("timestamp")
    return AppStateKey(
        ident=ident,
        key=value.get("keyData").octets(KEY),
        at=0 if at.missing else at.number(0, (1 << 63) - 1),
        fingerprint=_fingerprint(value.get("fingerprint")),
    )


def _fingerprint(value: Value) -> bytes:
    """A Message.AppStateSyncKeyFingerprint: rawId = 1, currentIndex = 2, deviceIndexes = 3, packed."""
    if value.missing:
        return b""
    encoded = b""
    for field, name in ((1, "rawId"), (2, "currentIndex")):
        number = value.get(name)
        if not number.missing:
            encoded += _varint(field << 3) + _varint(number.number(0, 0xFFFF_FFFF))
    indexes = [one.number(0, 0xFFFF_FFFF) for one in value.get("deviceIndexes").elements(1000)]
    packed = b"".join(map(_varint, indexes))
    return encoded + (_varint(3 << 3 | 2) + _varint(len(packed)) + packed if packed else b"")


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def token(name: str, data: bytes) -> PrivacyToken | None:
    """The token in tctoken-JID.json; None for the list of tokens, and for a used one.  Raises BadInput."""
    ident = ident_of(name, BaileysFile.TOKEN)
    if ident == "__index":
        return None
    user, _, server = ident.partition("@")
    if not _USER.fullmatch(user) or server not in ("lid", "s.whatsapp.net"):
        raise BadInput(f"{name} does not name a contact: the name should end in USER@SERVER.json")
    value = Value.parse(name, data)
    at, sender_at = value.get("timestamp"), value.get("senderTimestamp")
    found = value.get("token")
    if at.missing or found.missing or not found.octets():
        return None
    return PrivacyToken(
        jid=ident,
        token=found.octets(),
        at=at.number(0, _SECONDS),
        sender_at=None if sender_at.missing else sender_at.number(0, _SECONDS),
    )


def mapping(name: str, data: bytes) -> tuple[str, str]:
    """(LID, phone number) of lid-mapping-NUMBER.json or lid-mapping-LID_reverse.json.  Raises BadInput."""
    ident, value = ident_of(name, BaileysFile.LID_MAPPING), Value.parse(name, data)
    key, other = ident.removesuffix(_REVERSE), value.text().partition("@")[0].partition(":")[0]
    if not _USER.fullmatch(key):
        raise BadInput(
            f"{name} does not name a contact: the name should be lid-mapping-NUMBER.json"
        )
    if not _USER.fullmatch(other):
        value.wrong("a phone number or a LID")
    return (key, other) if ident.endswith(_REVERSE) else (other, key)


def one_to_one(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each LID and each phone number once, as the library's table requires; the first mapping wins."""
    mapped: dict[str, str] = {}
    numbers: set[str] = set()
    for lid, number in pairs:
        if lid not in mapped and number not in numbers:
            mapped[lid] = number
            numbers.add(number)
    return list(mapped.items())
