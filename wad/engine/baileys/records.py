"""The library's records of Signal sessions and sender keys: JSON with bytes in base64.

libsignal-protocol-go state/record/*.go and groups/state/record/*.go, the structures; serialize/JSONSerializer.go, which
whatsmeow uses for what it stores (seen in databases of neonize 0.5.2).
"""

from __future__ import annotations

from msgspec import Struct, field


class ChainKey(Struct, frozen=True, rename="pascal"):
    """`index` is the number of the next message."""

    key: bytes
    index: int


class MessageKeys(Struct, frozen=True, rename="pascal"):
    """The keys of one skipped message."""

    cipher_key: bytes
    mac_key: bytes
    iv: bytes = field(name="IV")
    index: int


class Chain(Struct, frozen=True, rename="pascal"):
    """A sending chain has the private half of its ratchet key, a receiving one does not."""

    sender_ratchet_key_public: bytes
    sender_ratchet_key_private: bytes | None
    chain_key: ChainKey
    message_keys: list[MessageKeys]


class OptionalNumber(Struct, frozen=True, rename="pascal"):
    """A number that may be missing."""

    value: int
    is_empty: bool


class PendingPreKey(Struct, frozen=True):
    """The keys of the other device with which the session started, until that device has answered."""

    pre_key_id: OptionalNumber = field(name="PreKeyID")
    signed_pre_key_id: int = field(name="SignedPreKeyID")
    base_key: bytes = field(name="BaseKey")


class SessionState(Struct, frozen=True, rename="pascal"):
    """One session."""

    local_identity_public: bytes
    local_registration_id: int = field(name="LocalRegistrationID")
    pending_pre_key: PendingPreKey | None
    previous_counter: int
    receiver_chains: list[Chain]
    remote_identity_public: bytes
    remote_registration_id: int = field(name="RemoteRegistrationID")
    root_key: bytes
    sender_base_key: bytes
    sender_chain: Chain
    session_version: int
    needs_refresh: bool = False
    pending_key_exchange: None = None


class SessionRecord(Struct, frozen=True, rename="pascal"):
    """The sessions with one device; a late message may still belong to an older one."""

    session_state: SessionState
    previous_states: list[SessionState]


class SenderChainKey(Struct, frozen=True, rename="pascal"):
    """`iteration` is the number of the next message."""

    iteration: int
    chain_key: bytes


class SenderMessageKey(Struct, frozen=True, rename="pascal"):
    """The keys of one skipped message."""

    iteration: int
    iv: bytes = field(name="IV")
    cipher_key: bytes
    seed: bytes


class SenderState(Struct, frozen=True, rename="pascal"):
    """One sender key."""

    keys: list[SenderMessageKey]
    key_id: int = field(name="KeyID")
    sender_chain_key: SenderChainKey
    signing_key_private: bytes
    signing_key_public: bytes


class SenderRecord(Struct, frozen=True, rename="pascal"):
    """The keys that one device has sent to one group, the newest first."""

    sender_key_states: list[SenderState]
