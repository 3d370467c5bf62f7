"""App state: settings and contacts that a phone shares with its devices.

See docs/internals/whatsapp-protocol.md#app-state.  Each change of a collection is a patch of encrypted records; a
homomorphic hash over all of them (LTHash) proves that none was left out.
"""

from __future__ import annotations

import hmac
import json
import os
from dataclasses import dataclass, field

from tests.whatsapp import pb
from tests.whatsapp.curve import hkdf, mac
from tests.whatsapp.signal_protocol import cbc_encrypt
from tests.whatsapp.wire import Node, node

KEY_ID = b"\0\0\0\0\0\1"
_SET = b"\x01"  # SyncdMutation.SET is 0 on the wire, and this in the value's MAC
_WORDS = 64  # of the hash, 16 bits each


@dataclass
class _Collection:
    """`patches` are numbered from 1; `macs` contains the MAC of each record's current value."""

    patches: list[bytes] = field(default_factory=list)
    words: list[int] = field(default_factory=lambda: [0] * _WORDS)
    macs: dict[bytes, bytes] = field(default_factory=dict)

    def replace(self, index: bytes, value_mac: bytes) -> None:
        """Set the value of a record."""
        self._add(value_mac, 1)
        if older := self.macs.get(index):
            self._add(older, -1)
        self.macs[index] = value_mac

    def _add(self, value_mac: bytes, sign: int) -> None:
        addend = hkdf(value_mac, 2 * _WORDS, b"WhatsApp Patch Integrity")
        for i in range(_WORDS):
            word = int.from_bytes(addend[2 * i : 2 * i + 2], "little")
            self.words[i] = (self.words[i] + sign * word) & 0xFFFF

    def hash(self) -> bytes:
        """The hash over all records."""
        return b"".join(word.to_bytes(2, "little") for word in self.words)


class AppState:
    """The data that one account's phone shares."""

    def __init__(self) -> None:
        self.key = os.urandom(32)
        keys = hkdf(self.key, 160, b"WhatsApp Mutation Keys")
        self._index, self._value, self._value_mac, self._snapshot_mac, self._patch_mac = (
            keys[at : at + 32] for at in range(0, 160, 32)
        )
        self._collections: dict[str, _Collection] = {}

    def key_share(self, at: int) -> pb.Message:
        """AppStateSyncKeyShare: without it a device can read nothing."""
        return {1: [{1: {1: KEY_ID}, 2: {1: self.key, 2: {1: 1}, 3: at}}]}

    def version(self, name: str) -> int:
        """The number of patches of a collection."""
        return len(self._collections[name].patches) if name in self._collections else 0

    def set(self, name: str, path: list[str], value: pb.Message, at: int) -> None:
        """Set a record; `value` is a SyncActionValue without its time."""
        collection = self._collections.setdefault(name, _Collection())
        index = json.dumps(path, separators=(",", ":")).encode()
        action = pb.encode({1: index, 2: {1: at * 1000, **value}, 3: b"", 4: 2})
        iv = os.urandom(16)
        content = iv + cbc_encrypt(self._value, iv, action)
        size = (len(KEY_ID) + 1).to_bytes(8, "big")
        value_mac = hmac.digest(self._value_mac, _SET + KEY_ID + content + size, "sha512")[:32]
        index_mac = mac(self._index, index)
        collection.replace(index_mac, value_mac)
        record = {1: {1: index_mac}, 2: {1: content + value_mac}, 3: {1: KEY_ID}}
        version = len(collection.patches) + 1
        tail = version.to_bytes(8, "big") + name.encode()
        snapshot = mac(self._snapshot_mac, collection.hash(), tail)
        patch = {
            1: {1: version},
            2: [{1: 0, 2: record}],
            4: snapshot,
            5: mac(self._patch_mac, snapshot, value_mac, tail),
            6: {1: KEY_ID},
        }
        collection.patches.append(pb.encode(patch))

    def answer(self, asked: Node) -> Node:
        """A <collection>: the patches that the device has not seen."""
        name = asked.get("name")
        seen = int(asked.get("version") or 0)
        collection = self._collections.get(name, _Collection())
        patches = [node("patch", patch) for patch in collection.patches[seen:]]
        content = [node("patches", *patches)] if patches else []
        return node("collection", *content, name=name, version=max(seen, len(collection.patches)))
