"""The one place where a request becomes a reply: whatever the door, the same checks, words and errors.

A door knows who asks (`access`); everything else is decided here: does the operation exist, may this caller ask it, is
this the instance that acts, do the parameters fit.  What a handler raises beside a WadError is a fault of ours: it is
logged with its traceback, counted, and told to the caller as a reference into the log, never with its insides.

The log has a record of what was refused (looking: at `debug`) and of what cannot be undone: operation, account and the
error's code as fields, and no word of the request itself.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

import msgspec

from wad.api.caller import Caller
from wad.api.context import Context
from wad.api.operation import Access, Operation, Params, find
from wad.core.decoding import decoding
from wad.core.errors import BadInput, Denied, InvalidData, Passive, WadError

log = logging.getLogger(__name__)


async def call(
    context: Context, name: str, params: object, access: Access, caller: Caller | None = None
) -> object:
    """The reply of an operation that gives one.  Raises WadError, and nothing else.

    `caller` is who asks, where that is more than somebody with this access.
    """
    with guarded(context, name):
        operation = find(name)
        with _recorded(context, operation, params):
            return await _call(
                context, operation, params, caller or Caller("the control socket", access, True)
            )


async def _call(context: Context, operation: Operation, params: object, caller: Caller) -> object:
    access = Access.ANYBODY if caller.access is None else caller.access
    request = _admitted(context, operation, params, access)
    if operation.streaming:
        raise BadInput(f"{operation.name} streams its reply, which cannot be had here")
    more = (caller,) if operation.wants_caller else ()
    return msgspec.to_builtins(await operation.handler(context, request, *more))


async def stream(
    context: Context, name: str, params: object, access: Access
) -> AsyncGenerator[object, None]:
    """The replies of an operation that streams them.  Raises WadError, and nothing else."""
    with guarded(context, name):
        operation = find(name)
        request = _admitted(context, operation, params, access)
        if not operation.streaming:
            raise BadInput(f"{name} gives one reply, not a stream")
        async with aclosing(operation.handler(context, request)) as items:
            async for item in items:
                yield msgspec.to_builtins(item)


def _admitted(context: Context, operation: Operation, params: object, access: Access) -> Params:
    """The request, after every check.  Raises Denied, Passive, BadInput."""
    if access < operation.access:
        raise Denied(
            f"{operation.name} needs the right to {operation.access.name.lower()}",
            hint="run it as root, as the daemon's user, or as a member of its group (control.group)",
        )
    if operation.leader_only and not context.leader.active:
        raise _passive(context)
    try:
        with decoding("the request"):
            return msgspec.convert(params if params is not None else {}, operation.request)
    except InvalidData as error:
        # What fits and what does not is said by msgspec: the request is somebody's words, not a file's bytes.
        raise BadInput(str(error.__cause__ or error)) from error


def _passive(context: Context) -> Passive:
    holder = context.leader.holder
    if not holder:
        return Passive(
            f"this instance is passive and knows of no active one ({context.leader.reason})",
            hint="wait a moment and try again; `wadctl status` tells who is active",
        )
    return Passive(f"this instance is passive: {holder} is active", hint=f"ask {holder}")


@contextmanager
def _recorded(context: Context, operation: Operation, params: object) -> Iterator[None]:
    """Log how it ended, unless by a fault of ours, which `guarded` logs."""
    name, reads = operation.name, operation.access is Access.READ
    fields = {"operation": name}
    if not reads or log.isEnabledFor(logging.DEBUG):
        fields["account"] = _account_of(context, params)  # before it is removed
    try:
        yield
    except WadError as error:
        level = logging.DEBUG if reads else logging.INFO
        log.log(level, "%s was refused: %s", name, error.code, extra={**fields, "code": error.code})
        raise
    level = logging.INFO if operation.access is Access.ADMIN else logging.DEBUG
    log.log(level, "%s was done", name, extra=fields)


def _account_of(context: Context, params: object) -> str:
    """The id of the account that is meant; empty where none is, or none that is known here."""
    ref = params.get("account") if isinstance(params, dict) else None
    if not ref or not isinstance(ref, str):
        return ""
    try:
        return context.accounts.find(ref).id
    except WadError:
        return ""


@contextmanager
def guarded(context: Context, what: str) -> Iterator[None]:
    """Turn any error that has no class of its own into `internal`, logged and counted."""
    try:
        yield
    except WadError:
        raise
    except Exception as error:
        raise internal_error(context, what, error) from error


def internal_error(context: Context, what: str, error: Exception) -> WadError:
    """Log and count a fault of ours; the error that a caller may see."""
    reference = secrets.token_hex(4)
    context.internal_errors += 1
    context.loops.note("requests", error)
    fields = {"operation": what, "code": WadError.code}
    log.error("%s failed (reference %s)", what, reference, exc_info=error, extra=fields)
    return WadError(
        f"{what} failed inside the daemon, reference {reference}",
        hint=f"journalctl -u wad | grep -A30 {reference} shows why; please report it",
    )
