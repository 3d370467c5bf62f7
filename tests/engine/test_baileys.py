"""Reading a Baileys directory, and its errors."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from tests.support import baileys_session as sample
from tests.support.baileys_session import GROUP, PEER, key
from wad.core.baileys import BaileysFile, kind_of
from wad.core.errors import BadInput, Conflict, WadError
from wad.engine.baileys.ratchets import derive
from wad.engine.baileys.small_files import one_to_one
from wad.engine.baileys.translation import Carried, translate

SESSION = f"session-{PEER}.0.json"
SENDER_KEY = f"sender-key-{GROUP}--{PEER}--0.json"
RANDOM = b"r" * 32


def draw(count: int) -> bytes:
    """Fixed bytes instead of randomness."""
    return RANDOM[:count]


def carried(changes: dict[str, Any] | None = None, *, skip_damaged: bool = False) -> Carried:
    """The sample's translation, with some documents replaced."""
    files = sample.files(sample.documents() | (changes or {}))
    return translate(files, draw, skip_damaged=skip_damaged)


def the_session(document: dict[str, Any]) -> Any:
    """The library's record of a session's document."""
    (found,) = carried({SESSION: document}).sessions
    return json.loads(found.record)


# --- the device ---------------------------------------------------------------------------------


def test_the_device() -> None:
    """Private halves of its own keys, and its identity; `registered` is false after a QR code and is ignored."""
    device = carried().device
    assert (device.jid, device.lid) == ("15550000001:7@s.whatsapp.net", "900015550000001:7@lid")
    assert (device.phone, device.push_name, device.registration_id) == ("+15550000001", "Shop", 55)
    assert (device.noise_key, device.identity_key) == (key("noise"), key("identity"))
    assert (device.signed_pre_key, device.signed_pre_key_id) == (key("signed"), 1)
    assert device.adv_account_sig == key("account signature", 64)


@pytest.mark.parametrize("gone", ["me", "account"])
def test_a_session_that_was_never_linked(gone: str) -> None:
    """Baileys creates creds.json before the code is scanned."""
    creds = sample.creds()
    del creds[gone]
    with pytest.raises(Conflict, match="never linked"):
        carried({"creds.json": creds})


@pytest.mark.parametrize(
    ("ident", "jid"),
    [
        ("15550000001:7@s.whatsapp.net", "15550000001:7@s.whatsapp.net"),
        ("15550000001.0:7@s.whatsapp.net", "15550000001:7@s.whatsapp.net"),
        ("15550000001@s.whatsapp.net", None),
        ("15550000001:0@s.whatsapp.net", None),
        ("15550000001:7@lid", None),
        ("", None),
    ],
)
def test_the_address_of_a_linked_device(ident: str, jid: str | None) -> None:
    """With a number and a device other than the phone."""
    creds = sample.creds()
    creds["me"]["id"] = ident
    if jid is not None:
        assert carried({"creds.json": creds}).device.jid == jid
        return
    with pytest.raises(BadInput, match=r"me\.id"):
        carried({"creds.json": creds})


def test_a_hidden_id_may_be_unknown_and_may_lack_its_device() -> None:
    """It belongs to the number's address."""
    creds = sample.creds()
    creds["me"]["lid"] = "900015550000001@lid"
    assert carried({"creds.json": creds}).device.lid == "900015550000001:7@lid"
    del creds["me"]["lid"]
    assert carried({"creds.json": creds}).device.lid == ""


def test_a_directory_without_creds() -> None:
    """It is refused: it has no session."""
    with pytest.raises(BadInput, match=r"creds\.json not found"):
        translate({"pre-key-1.json": b"{}"}, draw)


# --- what is converted, and what not -----------------------------------------------------------


def test_everything_is_accounted_for() -> None:
    """Each file is converted, or listed with the reason why not."""
    found = carried()
    assert found.counts() == {
        "pre_keys": 1, "sessions": 1, "sender_keys": 1, "identities": 1, "app_state_keys": 1,
        "privacy_tokens": 1, "lid_mappings": 1,
    }  # fmt: skip
    assert [(left.kind, left.count) for left in found.left] == [
        (BaileysFile.DEVICES, 1),
        (BaileysFile.SENDER_KEY_MEMORY, 1),
    ]
    assert found.pre_keys == [(3, key("one-time"))]
    assert found.mappings == [("900015550000002", "15550000002")]
    assert found.tokens == [("900015550000002@lid", b"token", 1795597641, None)]


def test_the_sessions_identity_is_the_newest() -> None:
    """A separate file may be older."""
    assert carried().identities == [(f"{PEER}:0", key("their identity"))]


def test_an_app_state_key_with_its_fingerprint() -> None:
    """The name is base64 with a slash written as two underscores; the fingerprint becomes a protobuf again."""
    (found,) = carried().app_state_keys
    assert found.ident == b"\x00\x00\x00\xff"
    assert found.key == key("app state")
    assert found.fingerprint == b"\x08\xac\x02\x10\x01\x1a\x02\x00\x01"


def test_lids_and_numbers_are_one_to_one() -> None:
    """The library's table allows nothing else; the first mapping counts."""
    pairs = [("L1", "1"), ("L2", "1"), ("L1", "2"), ("L3", "3")]
    assert one_to_one(pairs) == [("L1", "1"), ("L3", "3")]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("creds.json", BaileysFile.CREDS),
        ("sender-key-memory-1@g.us.json", BaileysFile.SENDER_KEY_MEMORY),
        ("sender-key-1@g.us--2--0.json", BaileysFile.SENDER_KEY),
        ("app-state-sync-version-regular.json", BaileysFile.APP_STATE_VERSION),
        ("session-.json", BaileysFile.OTHER),
        ("session-1.0.json.bak", BaileysFile.OTHER),
        ("notes.txt", BaileysFile.OTHER),
    ],
)
def test_the_kind_of_a_file_by_its_name(name: str, kind: BaileysFile) -> None:
    """The longer prefix first; a file that has no key's name has no kind."""
    assert kind_of(name) is kind


# --- ratchets -----------------------------------------------------------------------------------


def test_a_session_in_the_librarys_form() -> None:
    """The next message's number instead of the last one's; keys of skipped messages instead of their seed."""
    record = the_session(sample.session(a=sample.session_entry("a")))
    state = record["SessionState"]
    assert record["PreviousStates"] == []
    assert state["RootKey"] == sample.text(key("a root"))
    assert (state["RemoteRegistrationID"], state["LocalRegistrationID"]) == (4711, 55)
    assert (state["SessionVersion"], state["PreviousCounter"]) == (3, 3)
    assert state["SenderChain"]["ChainKey"] == {"Key": sample.text(key("a sending")), "Index": 0}
    assert state["SenderChain"]["SenderRatchetKeyPrivate"] == sample.text(key("a private"))
    (receiving,) = state["ReceiverChains"]
    assert receiving["SenderRatchetKeyPublic"] == sample.public("a theirs")
    assert receiving["ChainKey"]["Index"] == 2
    (skipped,) = receiving["MessageKeys"]
    derived = HKDF(SHA256(), 80, None, b"WhisperMessageKeys").derive(key("a skipped"))
    assert skipped == {
        "CipherKey": sample.text(derived[:32]), "MacKey": sample.text(derived[32:64]),
        "IV": sample.text(derived[64:]), "Index": 0,
    }  # fmt: skip


def test_the_open_session_is_the_current_one() -> None:
    """The closed ones follow, the last used first."""
    record = the_session(
        sample.session(
            a=sample.session_entry("a", closed=5, used=5),
            b=sample.session_entry("b", used=1),
            c=sample.session_entry("c", closed=7, used=7),
        )
    )
    roots = [state["RootKey"] for state in (record["SessionState"], *record["PreviousStates"])]
    assert roots == [sample.text(key(f"{name} root")) for name in "bca"]


def test_a_record_without_an_open_session_is_left() -> None:
    """No session in it can be continued."""
    found = carried({SESSION: sample.session(a=sample.session_entry("a", closed=5))})
    assert found.sessions == []
    assert (BaileysFile.SESSION, 1) in [(left.kind, left.count) for left in found.left]


def test_a_session_that_cannot_send_is_left() -> None:
    """The library requires a sending chain."""
    entry = sample.session_entry("a")
    entry["_chains"] = {k: c for k, c in entry["_chains"].items() if c["chainType"] == 2}
    assert carried({SESSION: sample.session(a=entry)}).sessions == []


def test_a_closed_chain_gets_a_random_key() -> None:
    """Otherwise a stranger could add messages to it; without skipped messages it is dropped."""
    entry = sample.session_entry("a")
    (chain,) = (c for c in entry["_chains"].values() if c["chainType"] == 2)
    del chain["chainKey"]["key"]
    (kept,) = the_session(sample.session(a=entry))["SessionState"]["ReceiverChains"]
    assert kept["ChainKey"] == {"Key": sample.text(RANDOM), "Index": 2}
    chain["messageKeys"] = {}
    assert the_session(sample.session(a=entry))["SessionState"]["ReceiverChains"] == []


@pytest.mark.parametrize("one_time", [7, None])
def test_a_session_that_was_not_answered_yet(one_time: int | None) -> None:
    """It names the keys of the other device with which it began; the one-time key may be missing."""
    entry = sample.session_entry("a")
    entry["pendingPreKey"] = {"signedKeyId": 2, "baseKey": sample.public("base")}
    if one_time is not None:
        entry["pendingPreKey"]["preKeyId"] = one_time
    assert the_session(sample.session(a=entry))["SessionState"]["PendingPreKey"] == {
        "PreKeyID": {"Value": one_time or 0, "IsEmpty": one_time is None},
        "SignedPreKeyID": 2,
        "BaseKey": sample.public("base"),
    }


def test_a_sender_key_in_the_librarys_form() -> None:
    """The newest first; the keys of skipped messages are derived."""
    (found,) = carried().sender_keys
    assert (found.group, found.address) == (GROUP, f"{PEER}:0")
    first, second = json.loads(found.record)["SenderKeyStates"]
    assert (first["KeyID"], second["KeyID"]) == (2, 1)
    assert first["SenderChainKey"] == {"Iteration": 5, "ChainKey": sample.text(key("chain"))}
    assert first["SigningKeyPublic"] == sample.public("signing")
    derived = HKDF(SHA256(), 48, None, b"WhisperGroup").derive(key("skipped"))
    assert first["Keys"] == [
        {
            "Iteration": 4, "IV": sample.text(derived[:16]), "CipherKey": sample.text(derived[16:]),
            "Seed": sample.text(key("skipped")),
        }
    ]  # fmt: skip


def test_our_own_sender_key_is_not_converted() -> None:
    """wad creates its own, and distributes it with the first message."""
    found = carried({SENDER_KEY: sample.sender_key(sample.sender_state(1, private=key("own")))})
    assert found.sender_keys == []


@given(st.binary(max_size=64), st.binary(max_size=20), st.integers(1, 100))
def test_keys_are_derived_as_in_rfc_5869(seed: bytes, info: bytes, size: int) -> None:
    """Compared with another implementation."""
    assert derive(seed, info, size) == HKDF(SHA256(), size, None, info).derive(seed)


# --- damage ---------------------------------------------------------------------------------------


def test_damage_is_refused_with_the_files_name_and_what_to_do() -> None:
    """The first of several, and how many more."""
    files = sample.files() | {SESSION: b"", "pre-key-3.json": b'{"private": "short"}'}
    with pytest.raises(BadInput, match=r"pre-key-3\.json: private is not bytes.*1 more") as caught:
        translate(files, draw)
    assert "--skip-damaged" in caught.value.hint


def test_damaged_files_can_be_skipped_and_are_reported() -> None:
    """All but creds.json, which is required."""
    files = sample.files() | {SESSION: b"{"}
    found = translate(files, draw, skip_damaged=True)
    assert found.sessions == []
    (damaged,) = found.damaged
    assert damaged.startswith(f"{SESSION} is not valid JSON")
    with pytest.raises(BadInput, match=r"creds\.json"):
        translate(files | {"creds.json": b"{"}, draw, skip_damaged=True)


def test_an_error_does_not_contain_a_secret() -> None:
    """Only its path is."""
    creds = sample.creds()
    creds["noiseKey"]["private"] = "c2VjcmV0"
    with pytest.raises(BadInput) as caught:
        carried({"creds.json": creds})
    assert "c2VjcmV0" not in str(caught.value)
    assert "noiseKey.private" in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["Buffer", "AAAA", "v1", 2**64, -1, "1", [], {}]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["type", "data", "0", "private", "_sessions"]) | st.text(max_size=4),
                      inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
NAMES = sorted(sample.documents())


def clear(name: str, data: bytes) -> None:
    """It is translated, or refused with an error that names the file."""
    named = name
    try:
        translate(sample.files() | {name: data}, draw)
    except WadError as error:
        named = str(error)
    assert name in named


@given(st.sampled_from(NAMES), st.binary(max_size=64) | JSON.map(lambda d: json.dumps(d).encode()))
def test_any_content_of_a_file(name: str, data: bytes) -> None:
    """Any bytes and any JSON give a clear error, and never one of another type."""
    clear(name, data)


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a document."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(document, dict | list):
        inner = list(document.items() if isinstance(document, dict) else enumerate(document))
    return [path, *(place for k, v in inner for place in _places(v, (*path, k)))]


@given(st.data())
def test_any_value_in_any_field(data: st.DataObject) -> None:
    """A whole directory with one value of one file replaced or missing."""
    name = data.draw(st.sampled_from(NAMES))
    document = copy.deepcopy(sample.documents()[name])
    if name == SENDER_KEY:
        document = [sample.sender_state(1), sample.sender_state(2)]
    *way, last = data.draw(st.sampled_from(_places(document)[1:] or [(0,)]))
    if isinstance(document, dict | list) and document:
        parent = document
        for step in way:
            parent = parent[step]
        parent[last] = data.draw(JSON)
    if name == SENDER_KEY:
        document = sample.sender_key(*document)
    clear(name, json.dumps(document).encode())


@given(st.text(max_size=40))
def test_any_file_name(name: str) -> None:
    """A name is as untrusted as the file's content."""
    for kind in BaileysFile:
        clear(f"{kind}-{name}.json", b"{}")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_file_of_brackets(opening: bytes) -> None:
    """Nested as deeply as a file's size allows."""
    for name in NAMES:
        clear(name, opening * 200_000)
