"""WhatsApp addresses: every spelling the reference accepted, and no other error than BadJid."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wad.core.errors import BadInput, BadJid, BadPhone
from wad.core.jid import Jid, JidKind, ThreadId, account_id, phone_digits, recipient

SERVERS = (
    "s.whatsapp.net", "lid", "g.us", "broadcast", "newsletter", "hosted", "hosted.lid", "bot", "call", "msgr",
    "interop", "c.us",
)  # fmt: skip
NAMES = st.from_regex(r"\A\+?[0-9A-Za-z_\-.]{1,30}\Z")
DEVICES = st.one_of(st.just(""), st.from_regex(r"\A:[0-9a-z]{1,8}\Z"))
LIKELY = st.builds(
    lambda blank, name, device, server: f"{blank}{name}{device}@{server}",
    st.sampled_from(["", " ", "\t"]),
    NAMES,
    DEVICES,
    st.sampled_from(SERVERS),
)
ACCOUNTS = st.from_regex(r"\A[a-z0-9](?:[a-z0-9\-]|_(?!_)){0,20}[a-z0-9\-]\Z")


def parsed(text: str) -> Jid | None:
    """The address, or None for BadJid; anything else that is raised fails the test."""
    try:
        return Jid.parse(text)
    except BadJid:
        return None


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        # docs/internals/replaced-backend.md#thread-ids
        ("+40700000001@c.us", "40700000001@s.whatsapp.net"),
        ("40700000001:12@s.whatsapp.net", "40700000001@s.whatsapp.net"),
        (" 40700000001@S.WhatsApp.Net ", "40700000001@s.whatsapp.net"),
        ("40700000001:device@s.whatsapp.net", "40700000001@s.whatsapp.net"),
        ("123@lid", "123@lid"),
        ("status@broadcast", "status@broadcast"),
        # agents: user.agent:device, user_agent:device
        ("40700000001.0:12@s.whatsapp.net", "40700000001@s.whatsapp.net"),
        ("40700000001_1:2@s.whatsapp.net", "40700000001@s.whatsapp.net"),
        ("123.1.2@lid", "123@lid"),
        # what only looks like an agent
        ("123456-789.5@g.us", "123456-789.5@g.us"),
        ("120363000000000001@newsletter", "120363000000000001@newsletter"),
    ],
)
def test_every_spelling_has_one_canonical_form(text: str, bare: str) -> None:
    """The reference's vectors, and older software's AD-JIDs."""
    assert str(Jid.parse(text).bare()) == bare


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "40700000001", "@s.whatsapp.net", "a@b@lid", "40700000001@example.org", "1:2:3@lid",
        "[object object]", "acc__[object Object]", "1@lid@", "é@lid", "1:70000@lid", "a b@lid", "x" * 300 + "@lid",
        "1\n@lid", ".5@lid", "_5@lid", "+@s.whatsapp.net", "١٢٣@s.whatsapp.net",
    ],
)  # fmt: skip
def test_an_invalid_address_is_refused(text: str) -> None:
    """Nothing is guessed, and the error gives the reason."""
    with pytest.raises(BadJid):
        Jid.parse(text)


@pytest.mark.parametrize("thing", [None, 5, b"1@lid", {"user": "1"}, Jid("1", "lid")])
def test_an_object_is_not_an_address(thing: object) -> None:
    """The reference once made `[object Object]` of them."""
    with pytest.raises(BadJid):
        Jid.parse(thing)  # type: ignore[arg-type]


def test_an_unknown_server_cannot_be_made() -> None:
    """Neither by parsing nor by hand."""
    with pytest.raises(BadJid):
        Jid("1", "example.org")


@given(LIKELY)
@example("1.2.3@lid")
@example("+1.2@c.us")
@example("0" * 190 + "@c.us")
def test_parsing_what_was_written_gives_the_same(text: str) -> None:
    """parse(str(j)) == j for every j, and the bare form is a form of its own."""
    jid = parsed(text)
    if jid is not None:
        assert Jid.parse(str(jid)) == jid
        assert Jid.parse(str(jid.bare())) == jid.bare()
        assert jid.bare().device == 0


@given(st.text() | st.text(alphabet="0123456789+.:_-@slidc u") | LIKELY)
def test_any_text_is_an_address_or_bad(text: str) -> None:
    """Never another exception."""
    jid = parsed(text)
    assert jid is None or isinstance(jid.kind, JidKind)


@given(
    LIKELY,
    st.sampled_from(["upper", "lower", "title", "swapcase"]),
    st.sampled_from(["", " ", "\n"]),
)
def test_case_and_blanks_do_not_matter(text: str, how: str, blank: str) -> None:
    """Spelling is not identity."""
    other = f"{blank}{getattr(text, how)()}{blank}"
    assert parsed(other) == parsed(text)


@pytest.mark.parametrize(
    ("text", "kind", "person"),
    [
        ("1@s.whatsapp.net", JidKind.PN, True),
        ("1@hosted", JidKind.PN, True),
        ("1@lid", JidKind.LID, True),
        ("1@hosted.lid", JidKind.LID, True),
        ("1-2@g.us", JidKind.GROUP, False),
        ("status@broadcast", JidKind.STATUS, False),
        ("123@broadcast", JidKind.BROADCAST, False),
        ("1@newsletter", JidKind.NEWSLETTER, False),
        ("1@bot", JidKind.OTHER, False),
    ],
)
def test_an_address_has_a_kind(text: str, kind: JidKind, person: bool) -> None:
    """By its server, and `status` apart."""
    assert (Jid.parse(text).kind, Jid.parse(text).is_person) == (kind, person)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phone", ["+40 700 000-001", "40700000001", "0040700000001", "+40 (700) 000.001"]
)
def test_a_number_may_be_spelled_as_usual(phone: str) -> None:
    """Blanks, brackets, dots, hyphens; plus or double zero."""
    assert phone_digits(phone) == "40700000001"
    assert str(Jid.of_phone(phone)) == "40700000001@s.whatsapp.net"


@pytest.mark.parametrize(
    "phone",
    ["", "+", "0700000001", "123456", "1234567890123456", "+40x", "++40700000001", "١٢٣٤٥٦٧٨"],
)
def test_an_invalid_number_is_refused(phone: str) -> None:
    """Never a guess at the country."""
    with pytest.raises(BadPhone):
        phone_digits(phone)


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_bad(text: str) -> None:
    """A number is 7 to 15 digits."""
    try:
        digits = phone_digits(text)
    except BadPhone:
        return
    assert digits.isascii()
    assert 7 <= len(digits) <= 15
    assert phone_digits(f"+{digits}") == digits


@pytest.mark.parametrize(
    ("text", "jid"),
    [
        ("+40700000001", "40700000001@s.whatsapp.net"),
        ("5:3@lid", "5@lid"),
        ("1-2@g.us", "1-2@g.us"),
    ],
)
def test_a_recipient_is_a_number_or_an_address(text: str, jid: str) -> None:
    """Never a single device of a person."""
    assert str(recipient(text)) == jid


# --- threads and accounts ---------------------------------------------------------------------------


def test_a_thread_is_named_by_account_and_party() -> None:
    """The reference's form; the device does not matter."""
    thread = ThreadId.make("account_prod_x", Jid.parse("40700000001:7@s.whatsapp.net"))
    assert str(thread) == "account_prod_x__40700000001@s.whatsapp.net"


@given(ACCOUNTS, LIKELY)
def test_a_thread_id_can_be_read_back(account: str, text: str) -> None:
    """parse(str(t)) == t, also where the party's name begins with an underscore."""
    jid = parsed(text)
    if jid is not None:
        thread = ThreadId.make(account, jid)
        assert ThreadId.parse(str(thread)) == thread


@pytest.mark.parametrize("thing", ["1@lid", None, {"user": "1"}])
def test_a_thread_needs_an_address(thing: object) -> None:
    """A text is not an address: it caused the replaced backend's threads named [object Object]."""
    with pytest.raises(BadJid):
        ThreadId.make("acc", thing)  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_is_a_thread_id_or_bad(text: str) -> None:
    """Never another exception."""
    try:
        thread = ThreadId.parse(text)
    except BadInput:
        return
    assert ThreadId.parse(str(thread)) == thread


@pytest.mark.parametrize(
    "text", ["", "-a", "_a", "A", "a__b", "a_", "a/b", "..", "a" * 65, "é", "a b", "a\n"]
)
def test_an_account_id_names_a_directory(text: str) -> None:
    """Nothing that could be another path, or part a thread's id in another place."""
    with pytest.raises(BadInput):
        account_id(text)


@pytest.mark.parametrize("text", ["a", "acc-1", "account_prod_x", "0", "a" * 64])
def test_a_good_account_id_is_returned(text: str) -> None:
    """As it is."""
    assert account_id(text) == text


@given(LIKELY)
def test_an_address_survives_the_wire(text: str) -> None:
    """It is a plain value for msgpack and JSON."""
    jid = parsed(text)
    if jid is not None:
        for codec in (msgspec.msgpack, msgspec.json):
            assert codec.decode(codec.encode(jid), type=Jid) == jid


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("+49 (0)171 1234567", "491711234567"),
        ("0049 (0) 171 1234567", "491711234567"),
        ("+44 (0)20 7946 0000", "442079460000"),
        ("+1 (555) 000-0001", "15550000001"),
        ("+39 06 1234 5678", "390612345678"),
        ("+225 07 00 00 00 00", "2250700000000"),
    ],
)
def test_a_zero_that_is_dialled_only_within_the_country(text: str, digits: str) -> None:
    """It is left out where it is in brackets; in some countries a zero is a part of the number."""
    assert phone_digits(text) == digits


@pytest.mark.parametrize("text", ["+49 0171 1234567", "+49 (0171) 1234567", "0044 020 7946 0000"])
def test_a_zero_that_belongs_to_no_international_number(text: str) -> None:
    """It would be another person's number, or nobody's: refused, with how to write it."""
    with pytest.raises(BadPhone, match="a 0 after the country code"):
        phone_digits(text)


def test_a_conversation_is_a_recipient() -> None:
    """What `wadctl threads` prints can be given as CHAT, for its own account."""
    thread = "acc-1__15550000002@s.whatsapp.net"
    assert str(recipient(thread, "acc-1")) == "15550000002@s.whatsapp.net"
    with pytest.raises(BadInput, match="a conversation of account acc-1, not of acc-2"):
        recipient(thread, "acc-2")
