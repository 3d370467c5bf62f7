"""Decoding of the daemon's replies into the types that the operations declare.

A newer daemon may send fields that this wadctl does not know; they are ignored.  An older daemon may lack fields; those
that were added later have defaults in the declared types.
"""

from __future__ import annotations

from typing import Any, TypeVar, get_args

import msgspec

from wad.api.operation import Operation
from wad.core.decoding import decoding
from wad.core.errors import InvalidData, WadError

T = TypeVar("T")


def reply_type(operation: Operation) -> Any:
    """The type of the operation's reply, or of each item of its stream."""
    return get_args(operation.reply)[0] if operation.streaming else operation.reply


def decoded(kind: type[T], reply: object) -> T:
    """The reply as a value of its declared type.  Raises WadError if it has another form."""
    try:
        with decoding("the daemon's reply"):
            return msgspec.convert(reply, kind)
    except InvalidData as error:
        raise WadError(
            f"the daemon's reply cannot be shown: {error}",
            hint="--json prints it unchanged; `wadctl version` shows whether both versions are the same",
        ) from error
