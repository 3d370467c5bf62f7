"""A session directory as Baileys writes it, made by hand: small, whole, and the same every time."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

PEER = "900015550000002_1"
GROUP = "120363000000000001@g.us"


def key(name: str, size: int = 32) -> bytes:
    """The bytes of a made-up key of this name."""
    return hashlib.shake_128(name.encode()).digest(size)


def text(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def buffer(data: bytes) -> dict[str, Any]:
    """What `BufferJSON` makes of bytes."""
    return {"type": "Buffer", "data": text(data)}


def pair(name: str) -> dict[str, Any]:
    """A pair of keys."""
    return {"private": buffer(key(name)), "public": buffer(key(f"{name} public"))}


def creds() -> dict[str, Any]:
    """creds.json of a device that was linked by a QR code."""
    return {
        "noiseKey": pair("noise"),
        "signedIdentityKey": pair("identity"),
        "signedPreKey": {
            "keyPair": pair("signed"), "signature": buffer(key("signature", 64)), "keyId": 1,
        },
        "registrationId": 55,
        "advSecretKey": text(key("adv")),
        "registered": False,
        "account": {
            "details": text(b"details"),
            "accountSignatureKey": text(key("account key")),
            "accountSignature": text(key("account signature", 64)),
            "deviceSignature": text(key("device signature", 64)),
        },
        "me": {"id": "15550000001:7@s.whatsapp.net", "lid": "900015550000001:7@lid", "name": "Shop"},
        "platform": "android",
    }  # fmt: skip


def public(name: str) -> str:
    """A public key behind its type, as libsignal-node writes it."""
    return text(b"\x05" + key(name))


def session_entry(name: str, *, closed: int = -1, used: int = 1) -> dict[str, Any]:
    """One session: we answered, they wrote two messages of which the first is still on its way."""
    ours, theirs = public(f"{name} ours"), public(f"{name} theirs")
    return {
        "registrationId": 4711,
        "currentRatchet": {
            "ephemeralKeyPair": {"pubKey": ours, "privKey": text(key(f"{name} private"))},
            "lastRemoteEphemeralKey": theirs,
            "previousCounter": 3,
            "rootKey": text(key(f"{name} root")),
        },
        "indexInfo": {
            "baseKey": public(f"{name} base"), "baseKeyType": 2, "closed": closed, "used": used,
            "created": 1, "remoteIdentityKey": public("their identity"),
        },
        "_chains": {
            theirs: {
                "chainKey": {"counter": 1, "key": text(key(f"{name} receiving"))},
                "chainType": 2,
                "messageKeys": {"0": text(key(f"{name} skipped"))},
            },
            ours: {
                "chainKey": {"counter": -1, "key": text(key(f"{name} sending"))},
                "chainType": 1,
                "messageKeys": {},
            },
        },
    }  # fmt: skip


def session(**entries: dict[str, Any]) -> dict[str, Any]:
    """session-*.json."""
    return {"_sessions": dict(entries), "version": "v1"}


def sender_state(number: int, *, private: bytes = b"") -> dict[str, Any]:
    """One sender key, its bytes as numbers, as JSON.stringify leaves them."""
    numbers = {
        name: {"type": "Buffer", "data": list(data)}
        for name, data in (("seed", key("chain")), ("public", b"\x05" + key("signing")),
                           ("private", private), ("skipped", key("skipped")))
    }  # fmt: skip
    return {
        "senderKeyId": number,
        "senderChainKey": {"iteration": 5, "seed": numbers["seed"]},
        "senderSigningKey": {"public": numbers["public"], "private": numbers["private"]},
        "senderMessageKeys": [{"iteration": 4, "seed": numbers["skipped"]}],
    }


def sender_key(*states: dict[str, Any]) -> dict[str, Any]:
    """sender-key-*.json."""
    return buffer(json.dumps(states).encode())


def documents() -> dict[str, Any]:
    """A directory: what is in each file."""
    return {
        "creds.json": creds(),
        "pre-key-3.json": pair("one-time"),
        f"session-{PEER}.0.json": session(a=session_entry("a"), b=session_entry("b", closed=9)),
        f"sender-key-{GROUP}--{PEER}--0.json": sender_key(sender_state(1), sender_state(2)),
        f"identity-key-{PEER}.0.json": buffer(b"\x05" + key("an older identity")),
        "app-state-sync-key-AAAA__w==.json": {
            "keyData": text(key("app state")), "timestamp": "1795597641",
            "fingerprint": {"rawId": 300, "currentIndex": 1, "deviceIndexes": [0, 1]},
        },
        "lid-mapping-15550000002.json": "900015550000002",
        "lid-mapping-900015550000002_reverse.json": "15550000002",
        "tctoken-900015550000002@lid.json": {"token": buffer(b"token"), "timestamp": "1795597641"},
        "device-list-15550000002.json": ["0"],
        "sender-key-memory-120363000000000001@g.us.json": {},
    }  # fmt: skip


def files(given: dict[str, Any] | None = None) -> dict[str, bytes]:
    """The same as bytes."""
    found = documents() if given is None else given
    return {name: json.dumps(document).encode() for name, document in found.items()}
