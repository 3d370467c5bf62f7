"""The library's events: any bytes of any event, up to the daemon's result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgpack
import msgspec
from hypothesis import strategies as st

from tests.fuzz.target import target
from tests.support.library_events import GROUP, LID, PN, an_event
from tests.support.protobufs import Message, pb
from tests.support.random_protobufs import field, wire_bytes
from wad.api.views.message import MessageView, message_view
from wad.core import event
from wad.core.addresses import Addresses
from wad.core.change import PutAlias, PutMessage
from wad.core.plan import plan
from wad.store.app_documents import message_fields
from wad.worker.message_secrets import MessageSecrets
from wad.worker.translate.events import TRANSLATORS
from wad.worker.translation import OpeningKeys, translated
from wadctl.message_tables import line
from wadctl.replies import decoded

_NAMES: Final = tuple(sorted(TRANSLATORS))
_BODY: Final = pb.Message.DESCRIPTOR.fields_by_name["Message"].number
_NOW: Final = 1_769_000_000_000  # ms


def _vote(_raw: bytes) -> tuple[bytes, ...]:
    return (b"\xff" * 32,)


def _attempt(name: str, raw: bytes) -> None:
    """Nothing is raised, nothing is lost: an untranslatable event is stored raw; a shown one can be displayed."""
    addresses = Addresses()
    for row in translated(name, raw, OpeningKeys(_vote, MessageSecrets()), _NOW).rows:
        if row.event is None:
            assert row.raw or row.kind == "heard" or not raw
            continue
        for change in plan("acc-1", event.decode(row.event), addresses, _NOW * 1000):
            if isinstance(change, PutAlias):
                addresses.put(change)
            if isinstance(change, PutMessage):
                message_fields(change.message)
                view = msgspec.to_builtins(message_view(change.message))
                msgpack.packb(view)
                msgspec.json.encode(view)
                line(decoded(MessageView, view)).encode()


@st.composite
def _events(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(_NAMES))
    if name == "Message" and draw(st.booleans()):
        # The envelope around a random inside is valid, so that all of it is read.
        around = an_event(Message(), chat=draw(st.sampled_from([LID, PN, GROUP])))
        raw = around.SerializePartialToString()
        # Parsers merge a repeated occurrence of a field.
        return name, raw + field(_BODY, draw(wire_bytes(Message, depth=4)))
    return name, draw(wire_bytes(getattr(pb, name), always=("Message", "Data")))


@target(weight=3, values=_events())
def events(_directory: Path) -> Iterator[Callable[[tuple[str, bytes]], None]]:
    """Events of every kind, drawn from their descriptions."""
    yield lambda drawn: _attempt(*drawn)


def _seeds() -> Sequence[bytes]:
    bodies = [
        Message(conversation="hello"),
        Message(
            extendedTextMessage={
                "text": "hello",
                "contextInfo": {"stanzaID": "3EB1", "participant": PN},
            }
        ),
        Message(
            imageMessage={"caption": "a picture", "mimetype": "image/png", "directPath": "/v/x"}
        ),
        Message(reactionMessage={"text": "+", "key": {"ID": "3EB1", "remoteJID": PN}}),
        Message(
            pollCreationMessage={"name": "q", "options": [{"optionName": "a"}, {"optionName": "b"}]}
        ),
    ]
    return [
        bytes([_NAMES.index("Message")]) + an_event(body).SerializeToString() for body in bodies
    ]


@target(weight=70, seeds=_seeds)
def event_bytes(_directory: Path) -> Iterator[Callable[[bytes], None]]:
    """Damaged events; the first byte selects their kind."""

    def attempt(data: bytes) -> None:
        if data:
            _attempt(_NAMES[data[0] % len(_NAMES)], data[1:])

    yield attempt
