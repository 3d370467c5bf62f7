"""Data on a socket or in a log: frames, addresses, tokens, lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.fuzz.target import target
from tests.support.firebase import ISSUER, PROJECT, Signer, user_claims
from wad.api.callers import signed_tokens
from wad.core import id_token, jid, wire
from wad.core.errors import BadInput
from wad.core.masking import scrubbed
from wad.worker.log_lines import parse_line
from wadctl.screen import plain


def _frames() -> Sequence[bytes]:
    frames: list[wire.Frame] = [
        wire.HELLO,
        wire.Request(1, "messages.send", {"account": "a", "to": "+15550000002", "text": "hi"}),
        wire.Response(7, BadInput("x"), None),
        wire.Response(2, None, [1, 2, 3]),
        wire.StreamItem(3, {"a": [1, 2.5, b"x"]}),
        wire.Notice("cancel", [3]),
    ]
    return [*map(wire.encode, frames), b"".join(map(wire.encode, frames))]


@target(weight=100, seeds=_frames)
def frames(_directory: Path) -> Iterator[Callable[[bytes], None]]:
    """The control socket's frames, and a worker's: with valid and invalid lengths and contents."""

    def attempt(data: bytes) -> None:
        for fed in (data, len(data[4:]).to_bytes(4, "big") + data[4:]):
            with suppress(BadInput):
                for frame in wire.Decoder().feed(fed):
                    with suppress(BadInput):
                        wire.check_hello(frame)

    yield attempt


_ADDRESSES: Final = (
    b"15550000001@s.whatsapp.net",
    b"1.2:3@s.whatsapp.net",
    b"1_2:3@lid",
    b"120363000000000001@g.us",
    b"status@broadcast",
    b"+40700000001@c.us",
    b"acc-1__15550000001@s.whatsapp.net",
    b"+40 (700) 000-001",
    b"x@newsletter",
)


@target(weight=70, seeds=lambda: _ADDRESSES)
def addresses(_directory: Path) -> Iterator[Callable[[bytes], None]]:
    """A valid address is written and read back unchanged."""

    def attempt(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        for parse in (jid.Jid.parse, jid.ThreadId.parse):
            with suppress(BadInput):
                found = parse(text)
                assert parse(str(found)) == found, text
        for read in (jid.recipient, jid.account_id, jid.phone_digits):
            with suppress(BadInput):
                read(text)

    yield attempt


def _tokens() -> Sequence[bytes]:
    claims = user_claims(time.time())
    signer = Signer()
    return [signer.token(claims).encode(), signer.token({**claims, "aud": [PROJECT]}).encode()]


@target(weight=30, seeds=_tokens)
def id_tokens(_directory: Path) -> Iterator[Callable[[bytes], None]]:
    """Untrusted Firebase tokens."""
    expected = id_token.Expected(PROJECT, ISSUER)

    def attempt(data: bytes) -> None:
        with suppress(id_token.BadToken):
            token = signed_tokens.parse(data.decode("latin-1"))
            id_token.check(token.claims, expected, 1_700_000_000)

    yield attempt


_LINES: Final = (
    b'Client/Recv\n<message from="1@s.whatsapp.net" id="3EB0" type="text"><enc v="2"/></message>',
    b'Client/Recv\n<receipt from="1@g.us" id="A" type="read"><participants key="K"/></receipt>',
    b'Client/Send\n<receipt id="A" to="1@s.whatsapp.net"/>',
    b'Client/Send\n<ack class="receipt" id="A" type="read"/>',
    b"Client\nIgnoring message 3EB0 from x",
    b"Client\nError decrypting message 3EB0 from x: failed: database is locked",
    b"Client\nFailed to download history sync: status code 404",
)


@target(weight=70, seeds=lambda: _LINES)
def log_lines(_directory: Path) -> Iterator[Callable[[bytes], None]]:
    """The library's log, which contains strangers' data; and the output of our own log and a terminal."""

    def attempt(data: bytes) -> None:
        logger, _, text = data.decode("utf-8", "surrogateescape").partition("\n")
        parse_line(logger, text)
        scrubbed(text)
        plain(text)

    yield attempt
