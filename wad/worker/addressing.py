"""The addresses that an outgoing content names people by: those that its chat is written in.

Apps find the target of a reaction, edit or revoke, the author of a quote and a mentioned person by exactly the address
that their chat has: a group by LIDs does not know a member's number, and iOS drops what names it.  wad shows and stores
numbers.  So a message is named as it arrived (`lid_chat`, `lid_sender`); for everything else a group's members say
which kind of address it uses.  The library translates the recipient of a message, and nothing inside of it
(docs/internals/library.md#sending).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from wad.core.jid import Jid, JidKind
from wad.core.mentions import with_other_addresses
from wad.core.outgoing import Outgoing, Target, Text, target_in, with_target


class Me(NamedTuple):
    """The account's own addresses, without devices; empty if unknown."""

    number: str
    lid: str

    def address(self, *, by_lid: bool) -> str:
        """The address of this kind; the other one if it is unknown."""
        return (self.lid or self.number) if by_lid else (self.number or self.lid)


class Members(NamedTuple):
    """The members of a group: whether they are addressed by LID, and each one's other address by the address."""

    by_lid: bool
    other: Mapping[str, str]


class KnownAddresses(Protocol):
    """What the library knows of addresses."""

    def members(self, group: Jid) -> Members:
        """The members of a group.  Raises EngineFailure."""
        ...

    def other_address(self, party: Jid) -> Jid | None:
        """The LID of a number, or the number of a LID, if it is known."""
        ...


def addressed(content: Outgoing, to: Jid, me: Me, directory: KnownAddresses) -> Outgoing:
    """The content with the addresses that its chat uses.  Raises EngineFailure: WhatsApp cannot be asked."""
    target = target_in(content)
    mentions = content.mentions if isinstance(content, Text) else ()
    if target is None and not (mentions and to.kind is JidKind.GROUP):
        return content
    members = None
    if to.kind is JidKind.GROUP and (mentions or (target and not target.lid_sender)):
        members = directory.members(to)
    if target is not None:
        content = with_target(content, _target(target, to, me, directory, members))
    if isinstance(content, Text) and mentions and members is not None:
        content = _mentions(content, members, directory)
    return content


def _target(
    target: Target, to: Jid, me: Me, directory: KnownAddresses, members: Members | None
) -> Target:
    """The target with its chat and its author as they are addressed."""
    if members is not None and not target.lid_sender:
        sender = target.sender or me.address(by_lid=members.by_lid)
        return replace(target, sender=_of_kind(sender, members, directory))
    if not Jid.parse(target.chat).is_person:
        # A group or a status: it arrived under this LID, or a status under the number.
        return replace(target, sender=target.lid_sender or target.sender or me.number)
    chat = target.lid_chat
    if not chat and target.from_me and (lid := _lid_of(to, directory)) is not None:
        chat = str(lid)  # the library has sent it there
    if target.from_me:
        by_lid = bool(chat) or to.kind is JidKind.LID
        return replace(target, chat=chat or target.chat, sender=me.address(by_lid=by_lid))
    return replace(target, chat=chat or target.chat, sender=chat or target.sender or target.chat)


def _lid_of(to: Jid, directory: KnownAddresses) -> Jid | None:
    return directory.other_address(to) if to.kind is JidKind.PN else None


def _of_kind(address: str, members: Members, directory: KnownAddresses) -> str:
    """The member's address of the kind that the group uses; as it is, if the other one is unknown."""
    jid = Jid.parse(address)
    if (jid.kind is JidKind.LID) is members.by_lid or not jid.is_person:
        return address
    if (known := members.other.get(address)) is not None:
        return known
    found = directory.other_address(jid)
    return address if found is None else str(found)


def _mentions(content: Text, members: Members, directory: KnownAddresses) -> Text:
    addresses = {one: _of_kind(one, members, directory) for one in content.mentions}
    return replace(
        content,
        text=with_other_addresses(content.text, content.mentions, addresses),
        mentions=tuple(addresses[one] for one in content.mentions),
    )
