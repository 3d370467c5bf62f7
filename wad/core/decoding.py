"""Decoding of untrusted data: from another program, an older wad, a half-written file, a stranger.

msgspec, json, msgpack, tomllib, datetime and int each raise errors of their own, and UnicodeDecodeError,
RecursionError and OverflowError beside those that they document.  Here all of them become one: InvalidData.  The caller
decides what follows: the input is refused, the item is quarantined, or the file is set aside.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgpack
import msgspec

from wad.core.errors import BadInput, InvalidData

_LONGEST: Final = 300  # characters of the decoder's message that are kept

_DECODERS: Final = (
    msgspec.MsgspecError,
    msgpack.exceptions.UnpackException,
    ValueError,  # UnicodeError, binascii.Error and the errors of json and tomllib are among these
    RecursionError,
    OverflowError,
)


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turn every decoding error into InvalidData that names `what` was decoded.

    A WadError other than BadInput passes unchanged; so do errors that show a bug (TypeError, KeyError, AttributeError).
    """
    try:
        yield
    except InvalidData:
        raise
    except BadInput as error:
        raise InvalidData(f"{what} is invalid: {str(error)[:_LONGEST]}", hint=error.hint) from error
    except OSError as error:
        if error.errno != errno.EOVERFLOW:  # datetime raises it for a time out of its range
            raise
        raise InvalidData(f"{what} is invalid: a time out of range") from error
    except _DECODERS as error:
        why = str(error)[:_LONGEST] or type(error).__name__
        raise InvalidData(f"{what} is invalid: {why}") from error
