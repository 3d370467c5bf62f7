"""The test server's own parts: what they write they can read, and what the library wrote they could."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from tests.whatsapp import WhatsApp, contents, pb, polls
from tests.whatsapp.attachments import MEDIA, announce, fetch
from tests.whatsapp.contents import Target
from tests.whatsapp.curve import KeyPair, verify
from tests.whatsapp.golib import facts, library_path
from tests.whatsapp.history import Conversation, Line, Sync, chunks
from tests.whatsapp.media import MediaHost
from tests.whatsapp.noise import HEADER, Frames, framed
from tests.whatsapp.people import Person
from tests.whatsapp.sender_keys import ReceivedSenderKey, SenderKey
from tests.whatsapp.signal_protocol import Bundle, PreKey, Session
from tests.whatsapp.trust import write_trust
from tests.whatsapp.wire import Jid, Node, decode, encode

NAMES = st.text("abcdefghij-_:", min_size=1, max_size=12)
JIDS = st.builds(
    Jid,
    st.text("0123456789", min_size=1, max_size=15),
    st.sampled_from(["s.whatsapp.net", "lid"]),
    st.integers(0, 99),
)
ATTRS = st.dictionaries(NAMES, st.one_of(st.text(max_size=300), JIDS), max_size=4)
NODES = st.recursive(
    st.builds(Node, NAMES, ATTRS, st.just([]), st.none() | st.binary(min_size=1, max_size=2000)),
    lambda inner: st.builds(Node, NAMES, ATTRS, st.lists(inner, min_size=1, max_size=4)),
    max_leaves=8,
)


@given(NODES)
def test_a_stanza_survives_the_wire(node: Node) -> None:
    """Tag, attributes with their kinds, children and bytes are decoded unchanged."""
    assert decode(encode(node)) == node


def test_the_dictionary_is_the_librarys() -> None:
    """Well-known tokens have the numbers of WhatsApp's version 3."""
    found = facts(library_path())
    assert found.single_tokens[1] == "xmlstreamstart"
    assert len(found.single_tokens) == 236
    assert [len(table) for table in found.double_tokens] == [256] * 4
    copy = Path(__file__).parent.parent.parent / "whatsapp" / "tokens.json"
    expected = json.loads(copy.read_text())
    assert list(found.single_tokens) == expected["single"]
    assert [list(table) for table in found.double_tokens] == expected["double"]


@given(
    st.dictionaries(
        st.integers(1, 500), st.integers(0, 2**63) | st.binary(max_size=300), max_size=8
    )
)
def test_protobuf_round_trip(message: dict[int, int | bytes]) -> None:
    """Numbers and bytes by field number."""
    assert pb.decode(pb.encode(message)) == message


@given(st.binary(max_size=200))
def test_signatures(message: bytes) -> None:
    """What a key signs, its public half verifies; nothing else."""
    pair = KeyPair()
    signature = pair.sign(message)
    assert verify(pair.public, message, signature)
    assert not verify(pair.public, message + b"x", signature)


def two_sessions() -> tuple[Session, Session]:
    """Alice begins a session with Bob."""
    alice, bob, signed, one_time = KeyPair(), KeyPair(), PreKey(1), PreKey(7)
    bundle = Bundle(bob.public, 1, signed.pair.public, 7, one_time.pair.public)
    mine = Session.initiate(alice, bundle)
    kind, first = mine.encrypt(b"first")
    assert kind == "pkmsg"
    theirs = Session.accept(bob, signed, {7: one_time}, first)
    assert theirs.decrypt(kind, first) == b"first"
    return mine, theirs


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), max_size=20))
def test_a_conversation_in_both_directions(lines: list[tuple[bool, bytes]]) -> None:
    """The ratchet turns with every change of direction."""
    mine, theirs = two_sessions()
    for from_me, text in lines:
        sender, receiver = (mine, theirs) if from_me else (theirs, mine)
        assert receiver.decrypt(*sender.encrypt(text)) == text


def test_messages_out_of_order_and_never_twice() -> None:
    """A later one first is fine; the same one again is not."""
    mine, theirs = two_sessions()
    sent = [mine.encrypt(bytes([n])) for n in range(5)]
    for number in (4, 0, 2, 1, 3):
        assert theirs.decrypt(*sent[number]) == bytes([number])
    with pytest.raises(ValueError, match="before"):
        theirs.decrypt(*sent[2])


def test_another_sessions_message_changes_nothing() -> None:
    """It is refused, and the session continues unchanged."""
    mine, theirs = two_sessions()
    other, _ = two_sessions()
    with pytest.raises(ValueError, match="MAC"):
        theirs.decrypt(*other.encrypt(b"stray"))
    assert theirs.decrypt(*mine.encrypt(b"mine")) == b"mine"


def test_a_sender_key() -> None:
    """What a member says after its distribution can be read, in any order, once; what was changed cannot."""
    key = SenderKey()
    before = key.encrypt(b"before")
    other = ReceivedSenderKey(key.distribution())
    sent = [key.encrypt(bytes([n])) for n in range(3)]
    for number in (2, 0):
        assert other.decrypt(sent[number]) == bytes([number])
    for refused, reason in (
        (sent[0], "before"),
        (before, "before"),
        (sent[1][:-1] + b"x", "signature"),
    ):
        with pytest.raises(ValueError, match=reason):
            other.decrypt(refused)
    with pytest.raises(ValueError, match="sender key"):
        ReceivedSenderKey(SenderKey().distribution()).decrypt(sent[1])
    assert other.decrypt(sent[1]) == bytes([1])


@given(st.sampled_from(MEDIA), st.binary(max_size=100))
def test_an_attachment(kind: str, data: bytes) -> None:
    """What one uploads the other downloads; what was changed on the way is refused."""
    host = MediaHost()
    content = pb.encode(announce(host, kind, data, "a/b", 1, {}))
    assert fetch(host, content) == data
    (path,) = host.files
    host.files[path] = host.files[path][:-1] + bytes([host.files[path][-1] ^ 1])
    with pytest.raises(ValueError, match="announced"):
        fetch(host, content)


@given(st.sets(st.sampled_from("abc")))
def test_a_vote(options: set[str]) -> None:
    """It can be read with the poll's secret, for that poll and that voter only."""
    poll = Target("POLL", Jid("1", "lid"), Jid("2", "lid"), from_me=False)
    voter = Jid("3", "lid")
    vote = pb.encode(polls.poll_vote(poll, b"s" * 32, voter, sorted(options), 1))
    hashes = {hashlib.sha256(option.encode()).digest() for option in options}
    assert polls.read_vote(vote, poll, b"s" * 32, voter) == hashes
    for secret, who in ((b"t" * 32, voter), (b"s" * 32, poll.sender)):
        with pytest.raises(InvalidTag):
            polls.read_vote(vote, poll, secret, who)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=12), st.integers(1, 5))
def test_history_is_cut_without_loss(times: list[tuple[int, bool]], size: int) -> None:
    """Every line is in one part, in order, in parts of that size but the last."""
    person = Person(WhatsApp(), Jid("1"), Jid("2", "lid"), "Bob")
    lines = [
        Line(str(number), at, contents.text("x"), person if theirs else None)
        for number, (at, theirs) in enumerate(times)
    ]
    parts = list(
        chunks([Conversation(person, lines)], Sync.RECENT, newest_first=True, per_chunk=size)
    )
    found = []
    for part in parts:
        chats_here = [value for field, value in pb.fields(part.history) if field == 2]
        for chat in chats_here:
            assert isinstance(chat, bytes)
            messages = [value for field, value in pb.fields(chat) if field == 2]
            assert len(messages) <= size
            for message in messages:
                assert isinstance(message, bytes)
                info = pb.decode(pb.data(pb.decode(message), 1))
                found.append((pb.number(info, 3), pb.data(pb.decode(pb.data(info, 1)), 3).decode()))
    assert sorted(ident for _, ident in found) == sorted(line.ident for line in lines)
    assert [at for at, _ in found] == sorted((line.at for line in lines), reverse=True)
    assert [part.order for part in parts] == list(range(1, len(parts) + 1))
    assert parts[-1].progress == 100


@given(st.lists(st.binary(max_size=100), max_size=10), st.integers(1, 7))
def test_frames_cut_anywhere(frames: list[bytes], size: int) -> None:
    """However the stream is cut, the frames are the same."""
    stream = HEADER + b"".join(framed(frame) for frame in frames)
    cutter = Frames()
    found = [f for at in range(0, len(stream), size) for f in cutter.feed(stream[at : at + size])]
    assert found == frames


def test_another_client_is_refused() -> None:
    """The first bytes must be WhatsApp's."""
    with pytest.raises(ValueError, match="no WhatsApp web client"):
        list(Frames().feed(b"GET / HTTP/1.1"))


def test_trust_does_not_load_the_library(tmp_path: Path) -> None:
    """A process that never loads the library stays free of it; one that does gets the other key."""
    site = write_trust(tmp_path, b"k" * 32)
    plain = "import sys; assert not any('neonize' in name for name in sys.modules)"
    loads = (
        "import ctypes, json, pathlib, neonize.client\n"
        "trust = json.loads(pathlib.Path({!r}).read_text())\n"
        "maps = pathlib.Path('/proc/self/maps').read_text().splitlines()\n"
        "base = next(int(line.split('-')[0], 16) for line in maps if line.endswith(trust['library']))\n"
        "assert ctypes.string_at(base + trust['changes'][0][0], 32) == b'k' * 32\n"
    ).format(str(site / "trust.json"))
    for code in (plain, loads):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


async def test_parties_are_found_by_number_and_hidden_id() -> None:
    """Each has both; a number is on it once."""
    async with WhatsApp() as server:
        account = server.add_account("15550000001", name="Shop")
        bob = server.add_peer("+15550000002", name="Bob")
        assert server.person(account.lid) is account.phone
        assert server.person(bob.pn.of_device(3)) is bob
        with pytest.raises(ValueError, match="already"):
            server.add_peer("15550000001")
        with pytest.raises(ValueError, match="no device shows"):
            await account.phone.scan("https://wa.me/settings/linked_devices#2@x,AA==,AA==,AA==,6")


def console(*lines: str) -> list[Any]:
    """What the console answers to these lines, after the environment."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.whatsapp", "--json"], input="\n".join(lines) + "\n",
        capture_output=True, text=True, timeout=30, check=True, cwd=Path(__file__).parent.parent.parent.parent,
    )  # fmt: skip
    environment, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(environment) == {"HTTPS_PROXY", "SSL_CERT_FILE", "PYTHONPATH"}
    return answers


def test_the_console_runs_commands() -> None:
    """Accounts, peers, messages and the ledger, a line each."""
    answers = console(
        "account 15550000001 shop", "peer 15550000002 Bob", "network down", "odd", "inbox Bob", "ledger",
    )  # fmt: skip
    assert answers[2] == "down"
    assert "unknown command" in answers[3]["error"]
    assert answers[4:] == [[], {}]


def test_every_command_of_the_console_has_help() -> None:
    """Its own name, its arguments, what it does; and that is what a wrong use is answered with."""
    (lines,) = console("help")
    assert all(re.fullmatch(r"[a-z]+( [^:]+)?: .+", line) for line in lines)
    names = [re.split("[ :]", line)[0] for line in lines]
    assert len(names) == len(set(names)) > 30
    (line,) = (line for line in lines if line.startswith("typing "))
    assert console("typing") == [{"error": f"usage: {line}"}]


def test_the_console_acts_for_people(tmp_path: Path) -> None:
    """Everything that a peer says is in the ledger of the account, in a chat or in a group."""
    (tmp_path / "a.txt").write_text("a file")
    answers = console(
        "account 15550000001 shop", "peer 15550000002 Bob", "group Friends Bob shop", "text Bob shop hello",
        "text Bob Friends hello all", f"file Bob shop document {tmp_path / 'a.txt'} look",
        "react Bob shop X 👍", "react Bob Friends X 👍 Bob", "edit Bob shop X typo", "revoke Bob shop X",
        "place Bob shop 1 2", "contact Bob shop Eve 15550000009", "poll Bob shop Tea? yes no",
        "status Bob lunch", "write shop Bob from my phone", "silent shop on", "stream shop 503",
        "clock 60", "ledger",
    )  # fmt: skip
    assert [a for a in answers if isinstance(a, dict) and "error" in a] == []
    sent = [entry["text"] for entry in answers[-1]["15550000001"]["sent"]]
    assert sent == [
        "hello", "hello all", "look", "", "", "", "", "", "", "", "lunch", "from my phone",
    ]  # fmt: skip
