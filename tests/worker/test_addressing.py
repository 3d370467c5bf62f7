"""The addresses that an outgoing content names people by."""

from __future__ import annotations

import pytest

from wad.core.errors import EngineFailure
from wad.core.jid import Jid, JidKind
from wad.core.outgoing import (
    NewPoll,
    Outgoing,
    OwnReaction,
    Revoke,
    Target,
    Text,
    TextEdit,
    target_in,
)
from wad.worker.addressing import Me, Members, addressed

ANN, ANN_LID = "15550000002@s.whatsapp.net", "900000000000002@lid"
BOB, BOB_LID = "15550000003@s.whatsapp.net", "900000000000003@lid"
EVE, EVE_LID = "15550000004@s.whatsapp.net", "900000000000004@lid"
ME = Me("15550000001@s.whatsapp.net", "900000000000001@lid")
GROUP = "123456-789@g.us"


class KnownAddresses:
    """Ann and Bob are in the group, Eve is known from elsewhere."""

    def __init__(self, *, by_lid: bool, failing: bool = False) -> None:
        self.by_lid = by_lid
        self.failing = failing
        self.asked = 0

    def members(self, group: Jid) -> Members:
        """The members, who are the same in each group."""
        self.asked += 1
        if self.failing:
            raise EngineFailure("info query timed out")
        assert group.kind is JidKind.GROUP
        return Members(self.by_lid, {ANN: ANN_LID, ANN_LID: ANN, BOB: BOB_LID, BOB_LID: BOB})

    def other_address(self, party: Jid) -> Jid | None:
        """What the library has in its table."""
        found = {ANN: ANN_LID, ANN_LID: ANN, EVE: EVE_LID, EVE_LID: EVE}.get(str(party))
        return None if found is None else Jid.parse(found)


def named(content: Outgoing, to: str, directory: KnownAddresses) -> Target:
    """The target of a content as it is sent."""
    target = target_in(addressed(content, Jid.parse(to), ME, directory))
    assert target is not None
    return target


@pytest.mark.parametrize("by_lid", [True, False])
def test_a_message_of_a_group_is_named_as_it_arrived(by_lid: bool) -> None:
    """WhatsApp is asked only if it did not arrive under a LID; then the group says what it uses."""
    directory = KnownAddresses(by_lid=by_lid)
    target = Target("A", GROUP, sender=ANN, lid_chat="", lid_sender=ANN_LID)
    assert named(OwnReaction(target, "x"), GROUP, directory).sender == ANN_LID
    assert directory.asked == 0
    by_number = Target("A", GROUP, sender=ANN)
    found = named(OwnReaction(by_number, "x"), GROUP, directory).sender
    assert found == (ANN_LID if by_lid else ANN)
    assert directory.asked == 1


@pytest.mark.parametrize(("by_lid", "ours"), [(True, ME.lid), (False, ME.number)])
def test_our_own_message_in_a_group(by_lid: bool, ours: str) -> None:
    """A quote of it names us as the group does."""
    target = Target("A", GROUP, from_me=True)
    for content in (Text("x", target), NewPoll("?", ("a", "b"), 1, target), Revoke(target)):
        assert named(content, GROUP, KnownAddresses(by_lid=by_lid)).sender == ours


def test_mentions_in_a_group() -> None:
    """Of members and of others, by LID or by number; a person of whom only one address is known stays."""
    stranger = "15550000009@s.whatsapp.net"
    everyone = (ANN, BOB_LID, EVE, stranger)
    text = " ".join(f"@{one.partition('@')[0]}" for one in everyone)
    for by_lid, expected in (
        (True, (ANN_LID, BOB_LID, EVE_LID, stranger)),
        (False, (ANN, BOB, EVE, stranger)),
    ):
        found = addressed(
            Text(text, mentions=everyone), Jid.parse(GROUP), ME, KnownAddresses(by_lid=by_lid)
        )
        assert isinstance(found, Text)
        assert found.mentions == expected
        assert found.text == " ".join(f"@{one.partition('@')[0]}" for one in expected)


def test_a_direct_chat() -> None:
    """By LID if the message arrived so; our own by the LID to which the library sends."""
    directory = KnownAddresses(by_lid=True)
    under_lid = Target("A", ANN, sender=ANN, lid_chat=ANN_LID)
    found = named(Text("x", under_lid), ANN, directory)
    assert (found.chat, found.sender) == (ANN_LID, ANN_LID)
    found = named(Text("x", Target("A", ANN, sender=ANN)), ANN, directory)
    assert (found.chat, found.sender) == (ANN, ANN)
    ours = Target("A", ANN, from_me=True)
    for content in (TextEdit(ours, "x"), Revoke(ours), Text("x", ours)):
        found = named(content, ANN, directory)
        assert (found.chat, found.sender) == (ANN_LID, ME.lid)
    # Nobody's LID is known: the number stays.
    found = named(Revoke(Target("A", BOB, from_me=True)), BOB, directory)
    assert (found.chat, found.sender) == (BOB, ME.number)
    found = named(Text("x", Target("A", EVE_LID, from_me=True)), EVE_LID, directory)
    assert (found.chat, found.sender) == (EVE_LID, ME.lid)
    assert directory.asked == 0


def test_a_status_is_named_by_the_address_of_its_author() -> None:
    """The answer goes to the author's chat."""
    status = Target("A", "status@broadcast", sender=ANN, lid_sender=ANN_LID)
    found = named(Text("x", status), ANN, KnownAddresses(by_lid=True))
    assert (found.chat, found.sender) == ("status@broadcast", ANN_LID)


def test_nothing_is_asked_without_need() -> None:
    """Most messages name nobody."""
    directory = KnownAddresses(by_lid=True, failing=True)
    for to in (ANN, GROUP):
        assert addressed(Text("x"), Jid.parse(to), ME, directory) == Text("x")
    mention = Text(f"@{ANN.partition('@')[0]}", mentions=(ANN,))
    assert addressed(mention, Jid.parse(ANN), ME, directory) == mention
    assert directory.asked == 0
    with pytest.raises(EngineFailure, match="timed out"):
        addressed(mention, Jid.parse(GROUP), ME, directory)
