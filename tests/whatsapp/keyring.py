"""A phone's keys, its sessions with devices under test, and the sender keys of its groups."""

from __future__ import annotations

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair
from tests.whatsapp.device import Device, public_key
from tests.whatsapp.sender_keys import ReceivedSenderKey, SenderKey
from tests.whatsapp.signal_protocol import REGISTRATION_ID, PreKey, Session
from tests.whatsapp.wire import Jid, Node, node


class Keyring:
    """All secrets of one phone."""

    def __init__(self) -> None:
        self.identity = KeyPair()
        self._signed = PreKey(1)
        self._signature = self.identity.sign(b"\x05" + self._signed.pair.public)
        self._one_time: dict[int, PreKey] = {}
        self._key_number = 0
        self._sessions: dict[bytes, list[Session]] = {}  # by the device's identity, newest last
        self._accepted: set[bytes] = set()  # base keys
        self._sending: dict[Jid, SenderKey] = {}  # by group
        self._receiving: dict[tuple[Jid, bytes], ReceivedSenderKey] = {}

    @property
    def bundles(self) -> int:
        """The number of requests for its keys, to start a session."""
        return self._key_number

    def bundle_node(self, jid: Jid) -> Node:
        """The phone's <user> in the answer to a pre-key query, with a fresh one-time key."""
        self._key_number += 1
        fresh = self._one_time[self._key_number] = PreKey(self._key_number)
        signed = public_key(self._signed.id, self._signed.pair.public)
        return node(
            "user",
            node("registration", REGISTRATION_ID.to_bytes(4, "big")),
            node("type", b"\x05"),
            node("identity", self.identity.public),
            node("skey", *signed, node("signature", self._signature)),
            node("key", *public_key(fresh.id, fresh.pair.public)),
            jid=jid,
        )

    # --- one device ---------------------------------------------------------------------------

    def encrypt(self, device: Device, content: bytes) -> tuple[str, bytes]:
        """Encrypt a waE2E.Message for a device, in the session in which the device wrote last."""
        if not self._sessions.get(device.keys.identity):
            self.begin_session(device)
        return self._sessions[device.keys.identity][-1].encrypt(content)

    def begin_session(self, device: Device) -> None:
        """The next message to this device is the first of a new session."""
        sessions = self._sessions.setdefault(device.keys.identity, [])
        sessions.append(Session.initiate(self.identity, device.keys.bundle()))

    def decrypt(self, device: Device, kind: str, message: bytes) -> bytes:
        """Decrypt a device's message; either side may have started another session meanwhile, so all are tried."""
        sessions = self._sessions.setdefault(device.keys.identity, [])
        if kind == "pkmsg":
            header = pb.decode(message[1:])
            base = pb.data(header, 2)
            if base not in self._accepted:
                session = Session.accept(self.identity, self._signed, self._one_time, message)
                plain = session.decrypt(kind, message)
                self._accepted.add(base)
                self._one_time.pop(pb.number(header, 1), None)
                sessions.append(session)
                return plain
        for session in reversed(sessions):
            try:
                plain = session.decrypt(kind, message)
            except ValueError:
                continue
            sessions.remove(session)
            sessions.append(session)  # the one they use is the one to answer in
            return plain
        raise ValueError(f"a {kind} cannot be read: none of {len(sessions)} sessions fits")

    # --- groups -------------------------------------------------------------------------------

    def sender_key(self, group: Jid) -> SenderKey:
        """The key with which the phone writes to a group."""
        return self._sending.setdefault(group, SenderKey())

    def forget_sender_key(self, group: Jid) -> None:
        """Discard the group's key after a member left."""
        self._sending.pop(group, None)

    def learn(self, group: Jid, device: Device, content: bytes) -> None:
        """Store the sender key from a device's waE2E.Message: senderKeyDistributionMessage (2) field 2."""
        distribution = pb.data(pb.decode(pb.data(pb.decode(content), 2)), 2)
        self._receiving[group, device.keys.identity] = ReceivedSenderKey(distribution)

    def decrypt_group(self, group: Jid, device: Device, message: bytes) -> bytes:
        """Decrypt a device's group message.  Raises ValueError."""
        key = self._receiving.get((group, device.keys.identity))
        if key is None:
            raise ValueError(f"{device.jid} wrote to {group} and did not say how to read it")
        return key.decrypt(message)
