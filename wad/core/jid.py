"""WhatsApp addresses (JIDs): the only parser, and the identifiers made from them.

A JID is `user@server`; an address of one device (AD-JID) is `user:device@server`, written by older
software as `user.agent:device@server` or `user_agent:device@server`.  A person has a phone-number JID
(PN, `s.whatsapp.net`) and a LID (`lid`), which hides the number.  Formats: whatsmeow types/jid.go; the
forms that the replaced backend accepted: docs/internals/replaced-backend.md#thread-ids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from wad.core.errors import BadInput, BadJid, BadPhone

PN_SERVER, LID_SERVER, GROUP_SERVER = "s.whatsapp.net", "lid", "g.us"
_LEGACY_SERVERS = {"c.us": PN_SERVER}
_OWNERS = {"hosted": PN_SERVER, "hosted.lid": LID_SERVER}
"""Servers of cloud-hosted devices (whatsmeow types/jid.go), with the owner's server: the library passes their addresses
on unchanged in groups and in the history."""
_MAX_LENGTH = 200
_MAX_USER = 128  # so that the canonical form of an accepted text is accepted, too
_USER = re.compile(r"[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)*")
_ADDRESS = re.compile(r"(?P<name>[^:@]*)(?::(?P<device>[a-z0-9]+))?@(?P<server>[a-z.]+)")


class JidKind(StrEnum):
    """The kind of party that an address names."""

    PN = "pn"
    LID = "lid"
    GROUP = "group"
    BROADCAST = "broadcast"
    STATUS = "status"
    NEWSLETTER = "newsletter"
    OTHER = "other"


_KINDS = {
    PN_SERVER: JidKind.PN,
    LID_SERVER: JidKind.LID,
    GROUP_SERVER: JidKind.GROUP,
    "broadcast": JidKind.BROADCAST,
    "newsletter": JidKind.NEWSLETTER,
    "hosted": JidKind.PN,
    "hosted.lid": JidKind.LID,
    "bot": JidKind.OTHER,
    "call": JidKind.OTHER,
    "msgr": JidKind.OTHER,
    "interop": JidKind.OTHER,
}


@dataclass(frozen=True, slots=True, order=True)
class Jid:
    """An address.  `device` 0: the phone itself, or no device is given."""

    user: str
    server: str
    device: int = 0

    def __post_init__(self) -> None:
        if self.server not in _KINDS:
            raise BadJid(f"{self.server!r} is not a WhatsApp server")

    @staticmethod
    def parse(text: str) -> Jid:
        """Parse any spelling of an address.

        Case and surrounding blanks are ignored, a leading `+` of a number is dropped, `c.us` is the
        former name of `s.whatsapp.net`.  Raises BadJid.
        """
        if not isinstance(text, str):
            raise BadJid(f"a JID is a text, not {type(text).__name__}")
        return _parse(text)

    def __str__(self) -> str:
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}"

    @property
    def kind(self) -> JidKind:
        """The kind of party that this address names."""
        if self.user == "status" and self.server == "broadcast":
            return JidKind.STATUS
        return _KINDS[self.server]

    @property
    def is_person(self) -> bool:
        """Whether it names one person (by number or LID)."""
        return self.kind in (JidKind.PN, JidKind.LID)

    def bare(self) -> Jid:
        """The same party without the device."""
        return replace(self, device=0) if self.device else self

    def party(self) -> Jid:
        """The owner's address, without a device.  A business with a hosted device is the same party."""
        server = _OWNERS.get(self.server)
        return self.bare() if server is None else Jid(self.user, server)

    @staticmethod
    def of_phone(phone: str) -> Jid:
        """The PN of an international phone number in any usual spelling.  Raises BadPhone."""
        return Jid(phone_digits(phone), PN_SERVER)


@lru_cache(1024)  # the same few addresses occur again and again, several times in each message
def _parse(text: str) -> Jid:
    if len(text) > _MAX_LENGTH:
        raise BadJid(f"a JID has at most {_MAX_LENGTH} characters, not {len(text)}")
    # ASCII only: to fold the case of other letters would make two addresses one.
    match = _ADDRESS.fullmatch(text.strip().lower()) if text.isascii() else None
    if match is None:
        raise BadJid(
            f"{text!r} is not a WhatsApp address",
            hint="write user@server, for example 15550000001@s.whatsapp.net",
        )
    name, device, server = match["name"], match["device"], match["server"]
    server = _LEGACY_SERVERS.get(server, server)
    if server not in _KINDS:
        raise BadJid(f"{text!r}: {server!r} is not a WhatsApp server")
    if name.startswith("+") and name[1:].isdecimal():
        name = name[1:]
    if _KINDS[server] in (JidKind.PN, JidKind.LID):
        # An agent (the former name of a domain) adds nothing to the server.
        name = re.sub(r"(?:[._][0-9]+)+$", "", name)
    if len(name) > _MAX_USER or not _USER.fullmatch(name):
        raise BadJid(f"{text!r} has no valid user part")
    number = int(device) if device is not None and device.isdecimal() else 0
    if number > 0xFFFF:
        raise BadJid(f"{text!r} has no valid device number")
    return Jid(name, server, number)


_TRUNK_ZERO = re.compile(r"^(\s*(?:\+|00)\s*[1-9][0-9]{0,2}\s*)\(\s*0\s*\)")
_DOUBLE_PREFIX = re.compile(r"(?:\+|00)(?:20|27|3[1-3]|4[01346]|49|6[0-46]|8[1246]|9[0-58])0")
"""A country code with the 0 that is dialled only within the country (ITU-T E.164 lists of dialling procedures); other
countries have numbers that begin with 0, such as Italy."""


def _bare_digits(phone: str) -> str:
    return re.sub(r"[\s().\-]", "", phone)


def phone_digits(phone: str) -> str:
    """The digits of an international number: `+40 700 000-001` gives `40700000001`.

    7 to 15 digits as in ITU-T E.164, never a leading zero.  In `+49 (0)171 ...` the zero is dropped: it is dialled only
    within the country.  Raises BadPhone.
    """
    if len(phone) > _MAX_LENGTH:
        raise BadPhone(f"a phone number has at most {_MAX_LENGTH} characters, not {len(phone)}")
    international = re.match(r"\s*(?:\+|00)", phone)
    given = _TRUNK_ZERO.sub(r"\1", phone) if international else phone
    if re.search(r"\(\s*0", given) or (international and _DOUBLE_PREFIX.match(_bare_digits(given))):
        raise BadPhone(
            f"{phone!r} has a 0 after the country code",
            hint="leave out the 0 that is dialled only within the country, for example +49 171 1234567",
        )
    return stored_digits(given)


def stored_digits(phone: str) -> str:
    """The digits of a number that was accepted earlier: also of one with a 0 after the country code.

    An earlier wad kept that 0, so cards and queued messages may have it.  Raises BadPhone.
    """
    digits = _bare_digits(phone)
    digits = digits[1:] if digits.startswith("+") else digits.removeprefix("00")
    if not re.fullmatch(r"[1-9][0-9]{6,14}", digits, re.ASCII):
        raise BadPhone(
            f"{phone!r} is not an international phone number",
            hint="write the country code and the number, for example +15550000001",
        )
    return digits


def recipient(text: str, account: str = "") -> Jid:
    """The recipient that `text` names: an address, a phone number, or a conversation (thread id) of `account`.

    Raises BadJid, BadPhone, BadInput (a conversation of another account).
    """
    if "@" not in text:
        return Jid.of_phone(text)
    if "__" not in text:
        return Jid.parse(text).bare()
    thread = ThreadId.parse(text)
    if account and thread.account != account:
        raise BadInput(
            f"{text} is a conversation of account {thread.account}, not of {account}",
            hint=f"use the account {thread.account}",
        )
    return thread.jid


STATUS = Jid("status", "broadcast")
"""The chat of everybody's statuses; a message to it goes to all contacts."""

_ACCOUNT_ID = re.compile(r"[a-z0-9][a-z0-9_\-]{0,63}")


def account_id(text: str) -> str:
    """Check an account id, which also names a directory and documents, and return it.  Raises BadInput.

    `__` is refused because it separates the account from the JID in a thread id.
    """
    if not _ACCOUNT_ID.fullmatch(text) or "__" in text or text.endswith("_"):
        raise BadInput(
            f"{text!r} is not a valid account id",
            hint="1 to 64 of a-z 0-9 - _, starting with a letter or digit, without a double _",
        )
    return text


@dataclass(frozen=True, slots=True)
class ThreadId:
    """The id of a stored conversation: `<accountId>__<jid>` (docs/internals/replaced-backend.md#thread-ids)."""

    account: str
    jid: Jid

    @staticmethod
    def make(account: str, jid: Jid) -> ThreadId:
        """The thread of an account with a party, without the device.  Raises BadJid or BadInput."""
        if not isinstance(jid, Jid):
            raise BadJid(f"a thread needs a JID, not {type(jid).__name__}")
        return ThreadId(account_id(account), jid.bare())

    @staticmethod
    def parse(text: str) -> ThreadId:
        """The inverse of `str()`.  Raises BadInput."""
        account, separator, jid = text.partition("__")
        if not separator:
            raise BadInput(f"{text!r} is not a thread id", hint="a thread id is ACCOUNT__JID")
        return ThreadId.make(account, Jid.parse(jid))

    def __str__(self) -> str:
        return f"{self.account}__{self.jid}"
