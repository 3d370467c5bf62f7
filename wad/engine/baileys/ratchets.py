"""Signal's ratchets, converted from the form of libsignal-node to that of libsignal-protocol-go.

Both contain the same state of the same protocol.  The differences (libsignal-node 6.0.0 src/session_record.js and
session_cipher.js, Baileys lib/Signal/Group; libsignal-protocol-go session/SessionCipher.go and state/record):

- node's counter is the number of the last message, -1 before the first; Go's index is that of the next;
- node stores the seed of a skipped message, Go the keys that are derived from it;
- node drops the chain key of a closed chain; Go requires one.  It gets random bytes: with known bytes anybody could
  write messages into that chain;
- Go requires a sending chain; without one there is no session to convert, and the next message creates a new one;
- node lists sender keys with the newest last, Go with the newest first.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from wad.core.baileys import BaileysFile, ident_of
from wad.core.errors import BadInput
from wad.engine.baileys import records
from wad.engine.baileys.device import Device
from wad.engine.baileys.small_files import address_of
from wad.engine.baileys.values import KEY, Value, from_base64, typed

Draw = Callable[[int], bytes]
"""A function that returns the given number of random bytes."""

_VERSION: Final = 3
_STATES: Final = 41
"""Sessions in a record: libsignal-node keeps 40 closed ones, and one is open."""
_CHAINS: Final = 1000
_GO_CHAINS: Final = 5  # receiving chains that Go keeps; the oldest are dropped first
_SKIPPED: Final = 2001
_SENDING: Final = 1
_COUNTER: Final = 0xFFFF_FFFE
_MS: Final = 1 << 53
_OPEN: Final = -1
_SENDER_KEY: Final = re.compile(
    r"(?P<group>[0-9a-zA-Z.@_-]{3,80})--(?P<user>[0-9]{1,20}(?:_[0-9]{1,3})?)--(?P<device>[0-9]{1,5})"
)


class RatchetSessions(NamedTuple):
    """The sessions with one device, and its identity; `address` is USER:DEVICE."""

    address: str
    record: bytes
    identity: bytes


class SenderKey(NamedTuple):
    """The keys that a device of a group's member has sent."""

    group: str
    address: str
    record: bytes


def derive(seed: bytes, info: bytes, size: int) -> bytes:
    """HKDF with SHA-256 and no salt (RFC 5869)."""
    key = hmac.digest(bytes(32), seed, "sha256")
    out = block = b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        out += block
    return out[:size]


# --- sessions -------------------------------------------------------------------------------------


def session(name: str, data: bytes, device: Device, draw: Draw) -> RatchetSessions | None:
    """The sessions in session-USER.DEVICE.json; None if none of them is open.  Raises BadInput."""
    value, address = Value.parse(name, data), address_of(name, BaileysFile.SESSION)
    if value.get("version").text() != "v1":
        value.get("version").wrong("v1, the only known version of a session record")
    entries = [entry for _, entry in value.get("_sessions").items(_STATES)]
    entries.sort(key=_last_used, reverse=True)
    states = [(_is_open(entry), _state(entry, device, draw)) for entry in entries]
    current = next((state for is_open, state in states if is_open), None)
    if current is None:
        return None
    previous = [state for _, state in states if state is not None and state is not current]
    record = msgspec.json.encode(records.SessionRecord(current, previous))
    return RatchetSessions(address, record, current.remote_identity_public[1:])


def _last_used(entry: Value) -> int:
    used = entry.get("indexInfo").get("used")
    return 0 if used.missing else used.number(0, _MS)


def _is_open(entry: Value) -> bool:
    return entry.get("indexInfo").get("closed").number(_OPEN, _MS) == _OPEN


def _state(entry: Value, device: Device, draw: Draw) -> records.SessionState | None:
    ratchet, index = entry.get("currentRatchet"), entry.get("indexInfo")
    pair = ratchet.get("ephemeralKeyPair")
    ours = pair.get("pubKey").public_key()
    sending: Value | None = None
    receiving: list[records.Chain] = []
    for key, chain in entry.get("_chains").items(_CHAINS):
        public = chain.public_key_of(from_base64(key) or b"")
        if chain.get("chainType").number(1, 2) == _SENDING:
            sending = chain if public == ours else sending
        elif (found := _receiving(public, chain, draw)) is not None:
            receiving.append(found)
    if sending is None:
        return None
    registration = entry.get("registrationId")
    return records.SessionState(
        local_identity_public=typed(device.identity_public),
        local_registration_id=device.registration_id,
        pending_pre_key=_pending(entry.get("pendingPreKey")),
        previous_counter=max(ratchet.get("previousCounter").number(-1, _COUNTER), 0),
        receiver_chains=receiving[-_GO_CHAINS:],
        remote_identity_public=typed(index.get("remoteIdentityKey").public_key()),
        remote_registration_id=0 if registration.missing else registration.number(0, 0xFFFF_FFFF),
        root_key=ratchet.get("rootKey").octets(KEY),
        sender_base_key=typed(index.get("baseKey").public_key()),
        sender_chain=records.Chain(
            typed(ours),
            pair.get("privKey").octets(KEY),
            records.ChainKey(sending.get("chainKey").get("key").octets(KEY), _next_index(sending)),
            [],
        ),
        session_version=_VERSION,
    )


def _receiving(public: bytes, chain: Value, draw: Draw) -> records.Chain | None:
    """A receiving chain; None for a closed one that waits for no message."""
    skipped = [_message_keys(n, seed) for n, seed in chain.get("messageKeys").items(_SKIPPED)]
    key = chain.get("chainKey").get("key")
    if key.missing and not skipped:
        return None
    secret = draw(KEY) if key.missing else key.octets(KEY)
    chain_key = records.ChainKey(secret, _next_index(chain))
    return records.Chain(typed(public), None, chain_key, skipped)


def _next_index(chain: Value) -> int:
    return chain.get("chainKey").get("counter").number(-1, _COUNTER) + 1


def _message_keys(number: str, seed: Value) -> records.MessageKeys:
    derived = derive(seed.octets(KEY), b"WhisperMessageKeys", 80)
    index = Value(number, seed.file, seed.path).number(0, _COUNTER)
    return records.MessageKeys(derived[:32], derived[32:64], derived[64:], index)


def _pending(value: Value) -> records.PendingPreKey | None:
    if value.missing:
        return None
    one_time = value.get("preKeyId")
    number = 0 if one_time.missing else one_time.number(0, 0xFF_FFFF)
    return records.PendingPreKey(
        records.OptionalNumber(number, one_time.missing),
        value.get("signedKeyId").number(0, 0xFF_FFFF),
        typed(value.get("baseKey").public_key()),
    )


# --- sender keys ------------------------------------------------------------------------------------


def sender_key(name: str, data: bytes) -> SenderKey | None:
    """The key in sender-key-GROUP--USER--DEVICE.json; None for an empty or own one.  Raises BadInput."""
    found = _SENDER_KEY.fullmatch(ident_of(name, BaileysFile.SENDER_KEY))
    if found is None or "@" not in found["group"]:
        raise BadInput(f"{name} does not name a group and a sender")
    inner = Value.parse(name, Value.parse(name, data).octets())
    states = [_sender_state(state) for state in inner.elements(_STATES)]
    theirs = [state for state in reversed(states) if state is not None]
    if not theirs:
        return None
    record = msgspec.json.encode(records.SenderRecord(theirs))
    return SenderKey(found["group"], f"{found['user']}:{int(found['device'])}", record)


def _sender_state(value: Value) -> records.SenderState | None:
    """One of another device's keys; None for our own, recognised by its private half."""
    chain, signing = value.get("senderChainKey"), value.get("senderSigningKey")
    private = signing.get("private")
    if not private.missing and private.octets():
        return None
    skipped = value.get("senderMessageKeys").elements(_SKIPPED)
    return records.SenderState(
        keys=[_sender_message_key(one) for one in skipped],
        key_id=value.get("senderKeyId").number(0, 0xFFFF_FFFF),
        sender_chain_key=records.SenderChainKey(
            chain.get("iteration").number(0, _COUNTER), chain.get("seed").octets(KEY)
        ),
        signing_key_private=bytes(KEY),  # what the library writes if it has none
        signing_key_public=typed(signing.get("public").public_key()),
    )


def _sender_message_key(value: Value) -> records.SenderMessageKey:
    seed = value.get("seed").octets(KEY)
    derived = derive(seed, b"WhisperGroup", 48)
    iteration = value.get("iteration").number(0, _COUNTER)
    return records.SenderMessageKey(iteration, derived[:16], derived[16:], seed)
