"""Conversion of all files of a directory: what is converted, what is not, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wad.core.baileys import CREDS, SKIPPED, BaileysFile, kind_of
from wad.core.errors import BadInput
from wad.engine.baileys import ratchets, small_files
from wad.engine.baileys.device import Device, device_of
from wad.engine.baileys.ratchets import Draw, RatchetSessions, SenderKey
from wad.engine.baileys.small_files import AppStateKey, PeerIdentity, PreKey, PrivacyToken

_NO_SESSION: Final = "no session in it is open: the next message creates a new one"
_OWN_SENDER_KEY: Final = "the account's own, or empty: wad creates and distributes its own"
_NO_TOKEN: Final = "used, or the list of tokens"
_DAMAGED: Final = "damaged, and skipped as requested"


@dataclass(frozen=True, slots=True)
class Left:
    """Files of one kind that are not converted, and why not."""

    kind: BaileysFile
    count: int
    why: str


@dataclass(slots=True)
class Carried:
    """A session in the library's terms.  `left` lists the files that are not in it."""

    device: Device
    pre_keys: list[PreKey] = field(default_factory=list)
    sessions: list[RatchetSessions] = field(default_factory=list)
    sender_keys: list[SenderKey] = field(default_factory=list)
    identities: list[PeerIdentity] = field(default_factory=list)
    app_state_keys: list[AppStateKey] = field(default_factory=list)
    tokens: list[PrivacyToken] = field(default_factory=list)
    mappings: list[tuple[str, str]] = field(default_factory=list)
    """(LID, phone number)"""
    left: list[Left] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """A sentence for each unreadable file; these were skipped."""

    def counts(self) -> dict[str, int]:
        """The number of converted items of each kind."""
        return {
            "pre_keys": len(self.pre_keys),
            "sessions": len(self.sessions),
            "sender_keys": len(self.sender_keys),
            "identities": len(self.identities),
            "app_state_keys": len(self.app_state_keys),
            "privacy_tokens": len(self.tokens),
            "lid_mappings": len(self.mappings),
        }


def translate(files: Mapping[str, bytes], draw: Draw, *, skip_damaged: bool = False) -> Carried:
    """The session in these files, by file name.

    Raises Conflict if it was never linked, and BadInput for malformed files; with `skip_damaged` only if that is
    creds.json, without which there is no session.
    """
    if CREDS not in files:
        raise BadInput(
            f"{CREDS} not found in this directory",
            hint="name the directory of one session: that of useMultiFileAuthState",
        )
    work = _Work(Carried(device_of(files[CREDS])), draw)
    for name in sorted(files):
        work.take(name, files[name])
    if work.carried.damaged and not skip_damaged:
        raise _refused(work.carried.damaged)
    return work.done()


def _refused(damaged: list[str]) -> BadInput:
    more = f", and {len(damaged) - 1} more files" if len(damaged) > 1 else ""
    return BadInput(
        f"{damaged[0]}{more}",
        hint="restore them from a backup of the other backend, or skip them with --skip-damaged: the contacts that they"
        " belong to then send one message twice",
    )


class _Work:
    def __init__(self, carried: Carried, draw: Draw) -> None:
        self.carried = carried
        self._draw = draw
        self._left: Counter[tuple[BaileysFile, str]] = Counter()

    def take(self, name: str, data: bytes) -> None:
        """Convert one file."""
        kind = kind_of(name)
        try:
            why = SKIPPED[kind] if kind in SKIPPED else self._carry(kind, name, data)
        except BadInput as error:
            self.carried.damaged.append(str(error))
            why = _DAMAGED
        if why:
            self._left[kind, why] += 1

    def _carry(self, kind: BaileysFile, name: str, data: bytes) -> str:
        """Convert a file; returns why not, if there is nothing to convert.  Raises BadInput."""
        carried = self.carried
        match kind:
            case BaileysFile.PRE_KEY:
                carried.pre_keys.append(small_files.pre_key(name, data))
            case BaileysFile.SESSION:
                session = ratchets.session(name, data, carried.device, self._draw)
                if session is None:
                    return _NO_SESSION
                carried.sessions.append(session)
            case BaileysFile.SENDER_KEY:
                sender_key = ratchets.sender_key(name, data)
                if sender_key is None:
                    return _OWN_SENDER_KEY
                carried.sender_keys.append(sender_key)
            case BaileysFile.IDENTITY:
                carried.identities.append(small_files.identity(name, data))
            case BaileysFile.APP_STATE_KEY:
                carried.app_state_keys.append(small_files.app_state_key(name, data))
            case BaileysFile.TOKEN:
                token = small_files.token(name, data)
                if token is None:
                    return _NO_TOKEN
                carried.tokens.append(token)
            case BaileysFile.LID_MAPPING:
                carried.mappings.append(small_files.mapping(name, data))
        return ""

    def done(self) -> Carried:
        """The converted session, without duplicates."""
        carried = self.carried
        carried.mappings = small_files.one_to_one(carried.mappings)
        # A session names the identity with which it was created; the identity's file may be missing or older.
        known = {one.address: one for one in carried.identities}
        known |= {s.address: PeerIdentity(s.address, s.identity) for s in carried.sessions}
        carried.identities = [known[address] for address in sorted(known)]
        carried.left = [Left(kind, count, why) for (kind, why), count in sorted(self._left.items())]
        return carried
