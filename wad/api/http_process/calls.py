"""Calls from the HTTP process: who asks is verified here, and what they may do is decided here.

A call is `[params, origin]`.  The HTTP process itself has no rights.  It can ask what anybody may, and what the tokens
allow that it was given.
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
"""Seconds after which to ask a passive instance again (docs/internals/replaced-backend.md#passive-answer)."""
STOPPING: Final = encode(Notice("stopping", []))
"""What a daemon that stops says first: what it refuses from now on can be asked of the next one."""
_ANYBODY: Final = Caller("anybody", Access.ANYBODY)


@dataclass(eq=False)
class HttpProcesses:
    """The HTTP processes that are connected, as they introduced themselves."""

    connected: dict[object, Introduction] = field(default_factory=dict)
    _heartbeats: Counter[object] = field(default_factory=Counter)
    failure: WadError | None = None
    """Why the last one could not begin."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each change."""

    @property
    def all(self) -> list[Introduction]:
        """Each once, by its process id."""
        return list({one.pid: one for one in self.connected.values()}.values())

    def heartbeats(self, pid: int) -> int:
        """How many heartbeats came from a process over the connections that it has now."""
        return sum(self._heartbeats[each] for each, one in self.connected.items() if one.pid == pid)

    def note(self, connection: object, name: str, params: object) -> None:
        """Hear what a process says of itself.  Raises InvalidData."""
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
        """A connection has ended."""
        self._heartbeats.pop(connection, None)
        if self.connected.pop(connection, None) is not None:
            self.changed.set()


class HttpCalls:
    """Verifies and bounds the calls of all connections of HTTP processes."""

    def __init__(self, context: Context, processes: HttpProcesses) -> None:
        http = context.loaded.config.http
        self.context = context
        self.processes = processes
        self.limits = CallerLimits(rates_of(http), context.clock.monotonic)
        self.gate = Authenticator(
            http,
            users_of(http, context.store.staff, lambda: context.clock.wall_ms() / 1000),
            context.clock.monotonic,
        )

    async def admit(self, operation: Operation, origin: CallOrigin) -> Caller:
        """Who asks, if they may.  Raises Refusal, Denied."""
        rules = operation.http
        if rules is None:
            raise Denied(f"{operation.name} cannot be asked over HTTP")
        if operation.http_access is Access.ANYBODY:
            return _ANYBODY
        caller = await self.gate.caller(origin, headerless=rules.headerless)
        check_access(caller, operation.http_access)
        return caller


class HttpRequestHandler:
    """One connection of an HTTP process."""

    most = 512
    """Calls in flight: as many as an HTTP process has places."""
    farewell = STOPPING
    shared = True

    def __init__(self, calls: HttpCalls) -> None:
        self._calls = calls

    async def call(self, name: str, params: object) -> object:
        """The reply.  Raises WadError, and nothing else."""
        calls, context = self._calls, self._calls.context
        with dispatch.guarded(context, name):
            operation = find(name)
            given, origin = _split(params)
            if name == "http.admit":
                await self._admit(given, origin)
                return None
            calls.processes.note(self, name, given)
            caller = await calls.admit(operation, origin)
            assert caller.access is not None  # nobody else was let in
            self._check_active(operation, origin)
            if operation.http is not None and operation.http.limit is not None:
                calls.limits.take(caller.name, operation.http.limit)
        try:
            return await dispatch.call(context, name, given, caller.access, caller)
        except Passive as error:
            raise passive(context, origin.request_id) from error

    async def _admit(self, given: object, origin: CallOrigin) -> None:
        """Raises what would keep the operation from looking at the rest of the request."""
        with decoding("the request"):
            wanted = msgspec.convert(given, Admission)
        operation = find(wanted.operation)
        await self._calls.admit(operation, origin)
        self._check_active(operation, origin)
        if wanted.account:
            from wad.api.legacy.accounts import account_of

            account_of(self._calls.context, wanted.account)

    def _check_active(self, operation: Operation, origin: CallOrigin) -> None:
        """Raises Refusal 503 where only the active instance may do it, and another one is active."""
        if operation.leader_only and not self._calls.context.leader.active:
            raise passive(self._calls.context, origin.request_id)

    def stream(self, name: str, params: object) -> AsyncGenerator[object, None]:
        """Nothing streams over HTTP yet.  Raises Denied."""
        raise Denied(f"{name} cannot be asked over HTTP")

    def ended(self) -> None:
        """The connection is gone."""
        self._calls.processes.forget(self)


def publish(settings: HttpSettings, path: Path) -> None:
    """Write the public settings where an HTTP process reads them while the daemon does not answer."""
    found = PublicSettings(settings.cors_origins, settings.enabled)
    try:
        write_file(path, msgspec.json.encode(found))
        path.chmod(0o644)  # the HTTP process is another user
    except (OSError, StateUnwritable) as error:
        log.warning("the public settings were not published: %s", error)


def _split(params: object) -> tuple[object, CallOrigin]:
    """Parameters and origin of a call.  Raises BadInput."""
    match params:
        case [given, origin]:
            try:
                with decoding("the origin"):
                    return given, msgspec.convert(origin, CallOrigin)
            except InvalidData as error:
                raise BadInput(str(error.__cause__ or error)) from error
    raise BadInput("a call of an HTTP process is [params, origin]")


def passive(context: Context, request_id: str) -> LegacyRefusal:
    """This instance must not act; the answer names the one that does.

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
