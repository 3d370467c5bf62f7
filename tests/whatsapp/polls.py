"""Polls and votes.  A vote is encrypted under the secret of its poll, and bound to it and to the voter."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.whatsapp import pb
from tests.whatsapp.contents import Target
from tests.whatsapp.curve import hkdf
from tests.whatsapp.wire import Jid

_MANY, _SINGLE = 49, 64  # pollCreationMessage, and the version of it with a single answer


def poll(question: str, options: Sequence[str], *, selectable: int = 1) -> pb.Message:
    """A poll; selectable 0 allows any number of answers.  Version 3 is the one with a single answer."""
    field = _SINGLE if selectable == 1 else _MANY
    choices = [{1: option} for option in options]
    return {field: {2: question, 3: choices, 4: selectable}}


def _vote_cipher(secret: bytes, target: Target, voter: Jid) -> tuple[AESGCM, bytes]:
    """The key of a vote and its additional data: the poll's id and both persons (whatsmeow's msgsecret.go)."""
    use = f"{target.ident}{target.sender.bare()}{voter.bare()}Poll Vote"
    return AESGCM(hkdf(secret, 32, use.encode())), f"{target.ident}\0{voter.bare()}".encode()


def poll_vote(
    target: Target, secret: bytes, voter: Jid, options: Sequence[str], at: int
) -> pb.Message:
    """A vote, encrypted with the poll's secret; no option withdraws the vote."""
    cipher, bound = _vote_cipher(secret, target, voter)
    iv = os.urandom(12)
    chosen = pb.encode({1: [hashlib.sha256(option.encode()).digest() for option in options]})
    vote = {1: cipher.encrypt(iv, chosen, bound), 2: iv}
    return {50: {1: target.key(), 2: vote, 4: at * 1000}}


def read_vote(content: bytes, target: Target, secret: bytes, voter: Jid) -> set[bytes]:
    """The SHA-256 of each chosen option of an encoded vote.  Raises ValueError, InvalidTag."""
    update = pb.decode(pb.data(pb.decode(content), 50))
    vote = pb.decode(pb.data(update, 2))
    cipher, bound = _vote_cipher(secret, target, voter)
    plain = cipher.decrypt(pb.data(vote, 2), pb.data(vote, 1), bound)
    return {value for field, value in pb.fields(plain) if field == 1 and isinstance(value, bytes)}
