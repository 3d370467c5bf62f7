"""Dispatches requests to operations, with the same checks and errors for every interface.

An interface supplies the caller's `access`; everything else is checked here: whether the operation exists, whether the
caller may use it, whether this instance is active, and whether the parameters are valid.  Any exception of a handler
that is not a WadError is an internal error: it is logged with its traceback and counted, and the caller gets a
reference to the log, without details.

Refused requests (reads: at `debug`) and changes that cannot be undone are logged with the operation, the account and
the error's code as fields, without the parameters.
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
from wad.core.request_errors import in_words

log = logging.getLogger(__name__)


async def call(
    context: Context, name: str, params: object, access: Access, caller: Caller | None = None
) -> object:
    """The reply of an operation that does not stream.  Raises only WadError.

    `caller`: the authenticated caller; without one, a client of the control socket with this access.
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
        raise BadInput(f"{operation.name} streams its reply, which is not supported here")
    more = (caller,) if operation.wants_caller else ()
    return msgspec.to_builtins(await operation.handler(context, request, *more))


async def stream(
    context: Context, name: str, params: object, access: Access
) -> AsyncGenerator[object, None]:
    """The items of an operation that streams its reply.  Raises only WadError."""
    with guarded(context, name):
        operation = find(name)
        request = _admitted(context, operation, params, access)
        if not operation.streaming:
            raise BadInput(f"{name} does not stream its reply")
        async with aclosing(operation.handler(context, request)) as items:
            async for item in items:
                yield msgspec.to_builtins(item)


def _admitted(context: Context, operation: Operation, params: object, access: Access) -> Params:
    """Check the request and return its parameters.  Raises Denied, Passive, BadInput."""
    if access < operation.access:
        raise Denied(
            f"{operation.name} requires {operation.access.name.lower()} access",
            hint="run it as root, as the daemon's user, or as a member of its group (control.group)",
        )
    if operation.leader_only and not context.leader.active:
        raise _passive(context)
    try:
        with decoding("the request"):
            return msgspec.convert(params if params is not None else {}, operation.request)
    except InvalidData as error:
        # msgspec's own text names the invalid field, and may be shown: the caller wrote the request.
        raise BadInput(in_words(str(error.__cause__ or error))) from error


def _passive(context: Context) -> Passive:
    holder = context.leader.holder
    if not holder:
        return Passive(
            f"this instance is passive and no active instance is known ({context.leader.reason})",
            hint="wait a moment and try again; `wadctl status` shows the active instance",
        )
    return Passive(f"this instance is passive: {holder} is active", hint=f"use {holder}")


@contextmanager
def _recorded(context: Context, operation: Operation, params: object) -> Iterator[None]:
    """Log the result of a request; internal errors are logged by `guarded`."""
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
    """The id of the account in the parameters; empty without one and for an unknown one."""
    ref = params.get("account") if isinstance(params, dict) else None
    if not ref or not isinstance(ref, str):
        return ""
    try:
        return context.accounts.find(ref).id
    except WadError:
        return ""


@contextmanager
def guarded(context: Context, what: str) -> Iterator[None]:
    """Convert every exception that is not a WadError into an `internal` error, logged and counted."""
    try:
        yield
    except WadError:
        raise
    except Exception as error:
        raise internal_error(context, what, error) from error


def internal_error(context: Context, what: str, error: Exception) -> WadError:
    """Log and count an internal error; return the error for the caller."""
    reference = secrets.token_hex(4)
    context.internal_errors += 1
    context.loops.note("requests", error)
    fields = {"operation": what, "code": WadError.code}
    log.error("%s failed (reference %s)", what, reference, exc_info=error, extra=fields)
    return WadError(
        f"{what} failed inside the daemon, reference {reference}",
        hint=f"journalctl -u wad | grep -A30 {reference} shows why; please report it",
    )
