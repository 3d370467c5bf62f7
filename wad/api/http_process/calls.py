"""Calls from the HTTP process: authentication, authorization and rate limits.

A call is `[params, origin]`.  The HTTP process itself has no rights: it can call public operations, and others with its
clients' tokens.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wad.api import dispatch
from wad.api.caller import Caller, CallOrigin
from wad.api.callers.authentication import Authenticator, check_access
from wad.api.callers.limits import CallerLimits, rates_of
from wad.api.callers.users import users_of
from wad.api.legacy.vocabulary import mode
from wad.api.operation import Access, Operation, find
from wad.api.operations.http import Admission, HttpStartFailure, Introduction, PublicSettings
from wad.core.decoding import decoding
from wad.core.errors import (
    BadInput,
    Denied,
    InvalidData,
    LegacyRefusal,
    Passive,
    StateUnwritable,
    WadError,
)
from wad.core.wire import Notice, encode
from wad.lib.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from wad.api.context import Context
    from wad.config.settings import HttpSettings

log = logging.getLogger(__name__)

RETRY_S: Final = 15
"""Seconds after which clients should retry a passive instance (docs/internals/replaced-backend.md#passive-answer)."""
STOPPING: Final = encode(Notice("stopping", []))
"""The first frame of a stopping daemon: requests that it refuses from now on can be sent to the next one."""
_ANYBODY: Final = Caller("anybody", Access.ANYBODY)


@dataclass(eq=False)
class HttpProcesses:
    """The connected HTTP processes with their introductions."""

    connected: dict[object, Introduction] = field(default_factory=dict)
    _heartbeats: Counter[object] = field(default_factory=Counter)
    failure: WadError | None = None
    """Why the last process could not start."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each change."""

    @property
    def all(self) -> list[Introduction]:
        """Each process once, by its process id."""
        return list({one.pid: one for one in self.connected.values()}.values())

    def heartbeats(self, pid: int) -> int:
        """The number of heartbeats of a process over its current connections."""
        return sum(self._heartbeats[each] for each, one in self.connected.items() if one.pid == pid)

    def note(self, connection: object, name: str, params: object) -> None:
        """Record the introduction or the start failure of a process.  Raises InvalidData."""
        if name == "http.settings":
            with decoding("the request"):
                self.connected[connection] = msgspec.convert(params, Introduction)
            self._heartbeats[connection] += 1
            self.failure = None
            self.changed.set()
        elif name == "http.failed":
            with decoding("the request"):
                self.failure = WadError.from_wire(
                    msgspec.structs.asdict(msgspec.convert(params, HttpStartFailure))
                )
            self.changed.set()

    def forget(self, connection: object) -> None:
        """Remove a connection that has ended."""
        self._heartbeats.pop(connection, None)
        if self.connected.pop(connection, None) is not None:
            self.changed.set()


class HttpCalls:
    """Authenticates and limits the calls of all HTTP processes."""

    def __init__(self, context: Context, processes: HttpProcesses) -> None:
        http = context.loaded.config.http
        self.context = context
        self.processes = processes
        self.limits = CallerLimits(rates_of(http), context.clock.monotonic)
        self.authenticator = Authenticator(
            http,
            users_of(http, context.store.staff, lambda: context.clock.wall_ms() / 1000),
            context.clock.monotonic,
        )

    async def admit(self, operation: Operation, origin: CallOrigin) -> Caller:
        """Authenticate a caller and check the access.  Raises LegacyRefusal, Denied."""
        rules = operation.http
        if rules is None:
            raise Denied(f"{operation.name} is not available over HTTP")
        if operation.http_access is Access.ANYBODY:
            return _ANYBODY
        caller = await self.authenticator.caller(origin, headerless=rules.headerless)
        check_access(caller, operation.http_access)
        return caller


class HttpRequestHandler:
    """Handles the calls of one connection of an HTTP process."""

    max_requests = 512
    """The limit of calls in flight: as many as an HTTP process has connection slots."""
    stopping = STOPPING
    shared = True

    def __init__(self, calls: HttpCalls) -> None:
        self._calls = calls

    async def call(self, name: str, params: object) -> object:
        """The reply of an operation.  Raises only WadError."""
        calls, context = self._calls, self._calls.context
        with dispatch.guarded(context, name):
            operation = find(name)
            given, origin = _split(params)
            if name == "http.admit":
                await self._admit(given, origin)
                return None
            calls.processes.note(self, name, given)
            caller = await calls.admit(operation, origin)
            assert caller.access is not None  # check_access() refused callers without rights
            self._check_active(operation, origin)
            if operation.http is not None and operation.http.limit is not None:
                calls.limits.take(caller.name, operation.http.limit)
        try:
            return await dispatch.call(context, name, given, caller.access, caller)
        except Passive as error:
            raise passive(context, origin.request_id) from error

    async def _admit(self, given: object, origin: CallOrigin) -> None:
        """Raise the error that the operation would raise before it reads the rest of the request."""
        with decoding("the request"):
            wanted = msgspec.convert(given, Admission)
        operation = find(wanted.operation)
        await self._calls.admit(operation, origin)
        self._check_active(operation, origin)
        if wanted.account:
            from wad.api.legacy.accounts import account_of

            account_of(self._calls.context, wanted.account)

    def _check_active(self, operation: Operation, origin: CallOrigin) -> None:
        """Raise LegacyRefusal 503 for an operation of the active instance while another instance is active."""
        if operation.leader_only and not self._calls.context.leader.active:
            raise passive(self._calls.context, origin.request_id)

    def stream(self, name: str, params: object) -> AsyncGenerator[object, None]:
        """Raise Denied: streams are not available over HTTP."""
        raise Denied(f"{name} is not available over HTTP")

    def ended(self) -> None:
        """Called when the connection has ended."""
        self._calls.processes.forget(self)


def publish(settings: HttpSettings, path: Path) -> None:
    """Write the public settings to a file that HTTP processes read while the daemon does not answer."""
    found = PublicSettings(settings.cors_origins, settings.enabled)
    try:
        write_file(path, msgspec.json.encode(found))
        path.chmod(0o644)  # the HTTP process runs as another user
    except (OSError, StateUnwritable) as error:
        log.warning("the public settings were not published: %s", error)


def _split(params: object) -> tuple[object, CallOrigin]:
    """The parameters and the origin of a call.  Raises BadInput."""
    match params:
        case [given, origin]:
            try:
                with decoding("the origin"):
                    return given, msgspec.convert(origin, CallOrigin)
            except InvalidData as error:
                raise BadInput(str(error.__cause__ or error)) from error
    raise BadInput("a call of an HTTP process must be [params, origin]")


def passive(context: Context, request_id: str) -> LegacyRefusal:
    """The error of a passive instance, with the name of the active one.

    See docs/internals/replaced-backend.md#passive-answer.
    """
    leader = context.leader
    more: dict[str, Any] = {
        "mode": "passive",
        "instanceId": context.loaded.config.instance.id,
        "holderInstanceId": leader.holder or None,
        "retryAfterSeconds": RETRY_S,
        "waMode": mode(leader),
        "requestId": request_id,
    }
    return LegacyRefusal(503, "instance_passive", f"Backend in PASSIVE mode: {leader.reason}", more)
