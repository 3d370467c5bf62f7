"""Untrusted files: configuration, sessions, undo files, state."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from hypothesis import strategies as st

from tests.fuzz.target import target
from tests.support import baileys_session
from wad.audit.firestore import undo as firestore_undo
from wad.audit.sqlite import undo
from wad.config.loading import examine
from wad.config.settings import SETTINGS
from wad.core.errors import BadInput, WadError
from wad.core.lease import Record
from wad.engine.baileys.translation import translate
from wad.state.account_dir import AccountCard, AccountDir
from wad.store.lease import FileLease
from wad.store.predecessor import Predecessor

_TOML: Final = (
    b'[state]\ndir = "/var/lib/wad"\nmin_free_mb = 200\n[http]\nport = 8080\naddress = "127.0.0.1"\n',
    b'[lease]\nkind = "firestore"\nttl = 15.0\nrenew_every = 5\nmargin = 3\n[instance]\nid = "a"\n',
    b'[http]\ntokens = ["a:admin:' + b"0" * 64 + b'"]\ncors_origins = ["https://*.example.org"]\n'
    b'trusted_proxies = "10.0.0.0/8"\nadmins = """a@example.org\nb@example.org"""\n',
    b'[engine]\nproxy = "socks5://a:b@c:1"\nretry_base = 1e0\n[store]\nkind = "sqlite"\n# x\n',
)


@target(weight=6, seeds=lambda: _TOML)
def configuration_files(directory: Path) -> Iterator[Callable[[bytes], None]]:
    """Any file is read, or every problem is named."""
    file = directory / "wad.toml"

    def attempt(data: bytes) -> None:
        file.write_bytes(data)
        with suppress(WadError):
            loaded, problems = examine(file, {}, hostname="host")
            assert loaded is not None or problems

    yield attempt


_VALUES: Final = (
    "1", "-1", "true", "٣", "1" * 25, "/", "/a:/b", "http://[", "http://[::1]:x/", "https://a:b@c:1",
    "10.0.0.0/33", "::/0%a", "*", "https://*.*.x", "\udc80", "\u202e", "{state.dir}", "{", "{}", "{0}", "%s",
    "nan", "inf", "1e309", "name:admin:" + "0" * 64,
)  # fmt: skip
_ENVIRONMENT: Final = st.dictionaries(
    st.sampled_from(sorted(name for row in SETTINGS.values() for name in row.env)),
    st.sampled_from(_VALUES) | st.text(st.characters(exclude_characters="\0"), max_size=30),
    max_size=5,
)


@target(weight=3, values=_ENVIRONMENT)
def environments(directory: Path) -> Iterator[Callable[[dict[str, str]], None]]:
    """Any environment is accepted, or every problem is named."""

    def attempt(environ: dict[str, str]) -> None:
        with suppress(WadError):
            loaded, problems = examine(None, environ, default_file=directory / "none", hostname="h")
            assert loaded is not None or problems

    yield attempt


def _changes() -> Sequence[bytes]:
    ours = [undo.Change("messages", undo.RowAction.UPDATE, 3, (("text", "x"), ("at_ms", 5)))]
    theirs = [firestore_undo.UndoRecord("threads/a/messages/b", {"a": 1}, {"a": 2})]
    return [msgspec.msgpack.encode(ours), msgspec.msgpack.encode(theirs)]


@target(weight=50, seeds=_changes)
def undo_files(directory: Path) -> Iterator[Callable[[bytes], None]]:
    """The input of `wadctl audit repair --undo`."""
    file = directory / "undo"

    def attempt(data: bytes) -> None:
        file.write_bytes(data)
        with suppress(BadInput):
            undo.read(file, undo.decode_all)
        with suppress(BadInput):
            undo.read(file, firestore_undo.decode_all)

    yield attempt


def _state() -> Sequence[bytes]:
    record = Record(
        holder="a",
        nonce="n",
        epoch=3,
        ttl=15.0,
        acquired_ms=1_700_000_000_000,
        renewed_ms=1_700_000_000_000,
    )
    return [
        msgspec.json.format(msgspec.json.encode(record)),
        msgspec.json.encode(AccountCard(id="acc-1", name="Shop", phone="+15550000001")),
        b'{"holder":"a","epoch":3,"from_ms":1,"until_ms":2}\n{"holder":"b"}\n',
        b"nonce kernel 8:1\n",
    ]


@target(weight=10, seeds=_state)
def state_files(directory: Path) -> Iterator[Callable[[bytes], None]]:
    """The lease's record and history, an account's card, the predecessor's record."""
    account_dir = AccountDir(directory / "acc-1")
    account_dir.path.mkdir()
    account_dir.card_file.parent.mkdir()
    lock = directory / "lock"
    lock.touch()

    async def lease() -> None:
        record = FileLease(directory / "lease.json", "n")
        with suppress(WadError):
            await record.read()
        with suppress(WadError):
            await record.history(100)

    with asyncio.Runner() as runner:

        def attempt(data: bytes) -> None:
            names = ("lease.json", "lease-history.jsonl", "predecessor", ".cards/acc-1.json")
            for name in names:
                (directory / name).write_bytes(data)
            runner.run(lease())
            card = account_dir.card()
            account_dir.write_card(card)
            assert account_dir.card() == card
            assert isinstance(Predecessor(lock).nonce, str)
            for file in account_dir.path.glob("*damaged*"):
                file.unlink()

        yield attempt


_ANY: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
_FILES: Final = baileys_session.files()


@st.composite
def _sessions(draw: st.DrawFn) -> dict[str, bytes]:
    """The files of a session, some of them changed, missing, or under another name."""
    found = dict(_FILES)
    for name in draw(st.lists(st.sampled_from(sorted(_FILES)), max_size=3)):
        match draw(st.integers(0, 3)):
            case 0:
                found[name] = draw(st.binary(max_size=200))
            case 1:
                at = draw(st.integers(0, len(_FILES[name])))
                to = at + draw(st.integers(0, 12))
                found[name] = _FILES[name][:at] + draw(st.binary(max_size=8)) + _FILES[name][to:]
            case 2:
                found.pop(name, None)
            case _:
                found[name] = _changed(draw, _FILES[name])
    if draw(st.booleans()):
        found[draw(st.text(max_size=20))] = draw(st.sampled_from(list(_FILES.values())))
    return found


def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    """The document with another value at some path."""
    document = msgspec.json.decode(data)
    at = document
    while isinstance(at, dict | list) and at:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = draw(st.sampled_from(keys))
        if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
            at = at[key]
            continue
        at[key] = draw(_ANY)
        break
    return msgspec.json.encode(document)


@target(weight=3, values=_sessions())
def baileys_files(_directory: Path) -> Iterator[Callable[[dict[str, bytes]], None]]:
    """Any directory of files becomes a session, or the unreadable file is named."""

    def attempt(files: dict[str, bytes]) -> None:
        for skip in (False, True):
            with suppress(WadError):
                translate(files, os.urandom, skip_damaged=skip)

    yield attempt
