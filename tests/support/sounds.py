"""The first bytes of sound files."""

from typing import Final

OPUS_HEAD: Final = b"OggS\0\x02" + bytes(20) + b"\x01\x13OpusHead\x01\x01" + bytes(9)
"""The first page of Opus in Ogg (RFC 7845 section 5.1)."""
