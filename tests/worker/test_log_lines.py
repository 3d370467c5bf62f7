"""The library's log: the signals in each line for the gate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.protobufs import pb
from wad.worker.log_lines import (
    HELD_RECEIPT_TYPES,
    HISTORY,
    Acknowledging,
    EventsExpected,
    GateSignal,
    HistoryDownloaded,
    HistoryFailed,
    PartSkipped,
    SessionUnsaved,
    announced_id,
    announcement_key,
    dropped_message,
    message_key,
    parse_line,
    receipt_key,
)

BOB, GROUP, CHANNEL = "9@lid", "120363000000000001@g.us", "1203631@newsletter"
ENC = '<enc type="msg" v="2"><!-- 200 bytes --></enc>'


@pytest.mark.parametrize(
    ("text", "means"),
    [
        (f'<message from="{BOB}" id="A" t="17">{ENC}</message>', EventsExpected("mA", 1, True)),
        (
            f'<message from="{GROUP}" id="A" t="17">{ENC}{ENC}</message>',
            EventsExpected("mA", 2, True),
        ),
        (
            f'<message from="{CHANNEL}" id="A"><plaintext>0a</plaintext></message>',
            EventsExpected("mA", 1, True),
        ),
        (f'<receipt from="{BOB}" id="A" t="17"/>', EventsExpected("rA", 1, False)),
        (f'<receipt from="{BOB}" id="A" t="17" type="read"/>', EventsExpected("rA", 1, False)),
        (
            f'<receipt from="{BOB}" id="A" type="read"><list><item id="B"/></list></receipt>',
            EventsExpected("rA", 1, False),
        ),
        (
            f'<receipt from="{GROUP}" id="S"><participants key="A"><user jid="1@lid" t="17"/>'
            '<user jid="2@lid" t="17"/></participants></receipt>',
            EventsExpected("rA", 2, False),
        ),
    ],
)
def test_incoming_lines(text: str, means: GateSignal) -> None:
    """The number of events that follow, and their key."""
    assert list(parse_line("Client/Recv", text)) == [means]


@pytest.mark.parametrize("kind", ["retry", "hist_sync", "server-error", "enc_rekey_retry"])
def test_other_incoming_receipts(kind: str) -> None:
    """No events of them are awaited."""
    assert parse_line("Client/Recv", f'<receipt from="{BOB}" id="A" type="{kind}"/>') == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f'<receipt id="A" to="{BOB}"/>', ("mA",)),
        (f'<receipt id="A" to="{BOB}" type="inactive"/>', ("mA",)),
        (f'<receipt id="A" to="{BOB}" type="sender"/>', ("mA",)),
        (f'<receipt id="A" to="{BOB}" type="peer_msg"/>', ("mA",)),
        (f'<receipt id="A" to="{BOB}" type="hist_sync"/>', ("mA",)),
        (f'<receipt id="A" to="{BOB}"><list><item id="B"/></list></receipt>', ("mA", "mB")),
        (f'<ack class="receipt" id="A" to="{BOB}"/>', ("rA",)),
        (f'<ack class="receipt" id="A" to="{BOB}" type="read"/>', ("rA",)),
        (f'<ack class="message" id="A" to="{CHANNEL}"/>', ("mA",)),
        (f'<ack class="call" id="A" to="{BOB}"/>', ()),
        (f'<ack class="notification" id="A" to="{GROUP}" type="w:gp2"/>', ()),
    ],
)
def test_lines_of_acknowledgements(text: str, names: tuple[str, ...]) -> None:
    """Receipts, and the acknowledgements of stanzas without a receipt."""
    assert list(parse_line("Client/Send", text)) == [Acknowledging(names)]


@pytest.mark.parametrize(
    "text",
    [
        *(
            f'<receipt id="A" to="{BOB}" type="{kind}"/>'
            for kind in ("read", "read-self", "played", "retry", "server-error")
        ),
        f'<ack class="message" id="A" to="{BOB}"/>',
        f'<ack class="receipt" id="A" to="{BOB}" type="retry"/>',
        f'<ack class="receipt" id="A" to="{BOB}" type="server-error"/>',
        f'<ack class="notification" id="A" to="{BOB}" type="devices"/>',
        f'<message id="A" to="{BOB}"></message>',
        "<receipt",
        "<ack",
    ],
)
def test_receipts_that_are_not_held(text: str) -> None:
    """Receipts for read or undecryptable messages; and those that would be sent again forever if they were held."""
    assert parse_line("Client/Send", text) == ()


def test_stanzas_that_the_library_ignores() -> None:
    """A part that was handed over before."""
    line = "Ignoring message A from 9@lid: received message with old counter 1"
    assert parse_line("Client", line) == (PartSkipped("mA"),)
    assert parse_line("Client/Recv", line) == ()


@pytest.mark.parametrize(
    ("why", "means"),
    [
        (
            "failed to decrypt normal message: failed to store session: database or disk is full",
            (SessionUnsaved(),),
        ),
        ("failed to save decrypted event to buffer: disk I/O error", (SessionUnsaved(),)),
        ("failed to decrypt prekey message: database is locked", (SessionUnsaved(),)),
        ("failed to store session: disk I/O error: no space left on device", (SessionUnsaved(),)),
        ("failed to decrypt normal message: mismatching MAC in signal message", ()),
    ],
)
def test_a_session_that_cannot_be_saved(why: str, means: tuple[GateSignal, ...]) -> None:
    """A message that the disk refused is not an undecryptable message."""
    assert (
        parse_line("Client", f"Error decrypting message 3EB0AB from 9@lid in 9@lid: {why}") == means
    )


@pytest.mark.parametrize(
    "ident", ["disk", "A from disk", "A from 9@lid: database is locked", "A: disk I/O error: B"]
)
def test_a_stranger_cannot_make_it_look_like_the_disk(ident: str) -> None:
    """The sender chooses an id, and if it ended the worker, the message would be sent again, forever."""
    why = "failed to decrypt normal message: mismatching MAC in signal message"
    assert (
        parse_line("Client", f"Error decrypting message {ident} from 9@lid in 9@lid: {why}") == ()
    )


@pytest.mark.parametrize(
    ("why", "gone"),
    [
        ("download failed with status code 404", True),
        ("download failed with status code 410", True),
        ("hash of media ciphertext doesn't match", True),
        ("failed to refresh media connections: websocket not connected", False),
        ('Get "https://mmg.whatsapp.net/x": dial tcp: connection refused', False),
        ("download failed with status code 503", False),
    ],
)
def test_a_part_of_the_history_that_failed(why: str, gone: bool) -> None:
    """A file that is gone stays gone; a network failure ends."""
    line = f"Failed to download history sync: {why}"
    assert parse_line("Client", line) == (HistoryFailed(gone),)


def test_a_part_of_the_history_that_is_here() -> None:
    """Its event follows."""
    line = "Received history sync (type FULL, chunk 3, progress 40)"
    assert parse_line("Client", line) == (HistoryDownloaded(),)


@given(st.text(), st.text())
def test_names_do_not_mix(ident: str, other: str) -> None:
    """Whatever ids strangers choose; an announcement key gives its id back."""
    names = [message_key(ident), receipt_key(ident), announcement_key(ident), HISTORY]
    others = [message_key(other), receipt_key(other), announcement_key(other), HISTORY]
    assert all((a == b) <= (i == k) for i, a in enumerate(names) for k, b in enumerate(others))
    assert [announced_id(name) for name in names] == ["", "", ident, ""]


def test_the_types_of_held_receipts() -> None:
    """Their numbers are neonize's."""
    names = {pb.Receipt.ReceiptType.Name(number) for number in HELD_RECEIPT_TYPES}
    assert names == {"DELIVERED", "READ", "READ_SELF", "PLAYED", "INACTIVE"}


@given(
    st.sampled_from(["Client", "Client/Recv", "Client/Send", "Client/Socket"]),
    st.sampled_from(["", "<message ", "<receipt ", "<ack ", "Ignoring message "]),
    st.text(),
)
def test_any_line_can_be_parsed(logger: str, start: str, rest: str) -> None:
    """A log is not a protocol: no line raises an error."""
    assert all(isinstance(one, GateSignal) for one in parse_line(logger, start + rest))


_HUGE = 2_000_000  # characters: with quadratic time the test would not end


def test_a_message_that_the_library_drops_is_reported() -> None:
    """With the reason, and by the client's own lines alone."""
    line = "Failed to parse message: [didn't find required attribute 't']"
    assert dropped_message("Client", line) == "[didn't find required attribute 't']"
    assert dropped_message("Client", "Failed to parse message: ") == "an unknown kind of message"
    garbage = "Error unmarshaling decrypted message from 1:2@lid in 3@g.us: proto: cannot parse"
    assert dropped_message("Client", garbage) == "proto: cannot parse"
    unknown = "Unhandled encrypted message (type x) from 1@lid"
    assert dropped_message("Client", unknown) == "an unknown kind of message"
    assert dropped_message("Client/Recv", line) == ""
    assert dropped_message("Client", f"Ignoring message {line} from 1@lid") == ""


@pytest.mark.parametrize(
    ("logger", "text"),
    [
        ("Client/Recv", '<receipt type="read">' + '<participants key="K">' * (_HUGE // 22)),
        ("Client/Recv", '<receipt type="read">' + '<participants key="' * (_HUGE // 19)),
        ("Client/Recv", "<message " + "<enc " * (_HUGE // 5)),
        ("Client/Send", '<receipt id="' + ' id="' * (_HUGE // 5)),
        ("Client", "Error decrypting message x: " + "disk " * (_HUGE // 5) + ":" + " x: y"),
        ("Client", "Error decrypting message " + ": disk " * (_HUGE // 7) + ":"),
        ("Client", "Error decrypting message " + ": " * (_HUGE // 2) + ":"),
        ("Client", "Ignoring message " + "x" * _HUGE),
        ("Client", "Failed to download history sync: " + "status code " * (_HUGE // 12)),
    ],
)
def test_a_huge_line_takes_time_in_proportion(logger: str, text: str) -> None:
    """A stranger chooses ids and lists of members: none of their lines blocks the library's thread."""
    assert not any(isinstance(each, SessionUnsaved) for each in parse_line(logger, text))


def test_members_of_a_group_are_counted_in_each_list() -> None:
    """A truncated list counts for nothing, and does not affect the others."""
    user = '<user jid="a"/>'
    text = (
        f'<receipt type="read"><participants key="A">{user * 3}</participants>'
        f'<participants key="B">{user}<participants key="C">{user * 2}</participants></receipt>'
    )
    assert parse_line("Client/Recv", text) == [
        EventsExpected(receipt_key("A"), 3, restart=False),
        EventsExpected(receipt_key("C"), 2, restart=False),
    ]
