"""What a route is, and how a request finds its own: path, method, then who asks, and whether this instance acts.

A route stands for one operation of the table and has its access and its need of the lease; what it adds is the form in
which the apps of the replaced backend know it (reference-backend.md 1.3).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from wad.api.operation import Access, Operation, find
from wad.api.rest.auth import Caller, Gate, check_access
from wad.api.rest.exchange import Answer, HttpError, Request
from wad.api.rest.limits import Limit, Limits

if TYPE_CHECKING:
    from wad.api.context import Context

RETRY_S: Final = (
    15  # seconds after which to ask a passive instance again (reference-backend.md 1.2)
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was let in; `params` are the parts of its path."""

    context: Context
    request: Request
    caller: Caller
    params: Mapping[str, str]

    @property
    def access(self) -> Access:
        """What the caller may do."""
        assert self.caller.access is not None  # nobody else was let in
        return self.caller.access

    @property
    def ident(self) -> str:
        """The request's id, the caller's or one made from the time."""
        return self.request.ident or f"req_{self.context.clock.wall_ms()}"

    def with_params(self, **params: str) -> Call:
        """The same request, as if these had stood in its path."""
        return replace(self, params={**self.params, **params})


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row.  `path` may hold `{name}`; `body` and `query` are what it takes, for the description.

    `least` is asked of the caller where it is more than what the operation asks; `browser`: a person may open it in a
    browser; `headerless`: trusted networks need no token for it; `internal`: the token may come as X-Internal-Token.
    """

    method: str
    path: str
    operation: str
    handler: Handler
    least: Access = Access.READ
    limit: Limit | None = None
    body: type | None = None
    query: tuple[str, ...] = ()
    browser: bool = False
    headerless: bool = False
    internal: bool = False

    @property
    def declared(self) -> Operation:
        """The operation."""
        return find(self.operation)

    @property
    def access(self) -> Access:
        """Who may ask."""
        return max(self.declared.access, self.least)


class Router:
    """All routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._patterns = [(_pattern(route.path), route) for route in self.routes]

    def find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        """The route of a request and the parts of its path; None for no such path.  Raises HttpError 405."""
        method = "GET" if request.method == "HEAD" else request.method
        others: list[str] = []
        for pattern, route in self._patterns:
            if (match := pattern.fullmatch(request.path)) is not None:
                if route.method == method:
                    return route, match.groupdict()
                others.append(route.method)
        if others:
            allowed = ", ".join(sorted(set(others)))
            raise HttpError(
                405,
                "method_not_allowed",
                f"here is an answer to {allowed} only",
                headers=((b"allow", allowed.encode()),),
            )
        return None


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    text = "".join(
        f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )
    return re.compile(text)


class Desk:
    """Lets requests in, one after the other question: who, may they, does this instance act, not too often."""

    def __init__(self, context: Context, router: Router, gate: Gate, limits: Limits) -> None:
        self._context = context
        self._router = router
        self._gate = gate
        self._limits = limits

    async def answer(self, request: Request) -> Answer | None:
        """The answer; None when no route has this path.  Raises HttpError, WadError."""
        found = self._router.find(request)
        if found is None:
            return None
        route, params = found
        caller = await self._gate.caller(
            request,
            browser=route.browser,
            headerless=route.headerless,
            internal=route.internal,
        )
        check_access(caller, route.access)
        call = Call(self._context, request, caller, params)
        if route.declared.leader_only and not self._context.leader.active:
            raise passive(call)
        if route.limit is not None:
            self._limits.take(caller.name, route.limit)
        return await route.handler(call)


def passive(call: Call) -> HttpError:
    """This instance must not act; the answer names the one that does (reference-backend.md 1.2)."""
    return passive_error(call.context, call.ident)


def passive_error(context: Context, ident: str) -> HttpError:
    """The same, for whoever knows the request's id only."""
    leader = context.leader
    more: dict[str, Any] = {
        "mode": "passive",
        "instanceId": context.loaded.config.instance.id,
        "holderInstanceId": leader.holder or None,
        "retryAfterSeconds": RETRY_S,
        "waMode": "passive",
        "requestId": ident,
    }
    return HttpError(
        503,
        "instance_passive",
        f"Backend in PASSIVE mode: {leader.reason}",
        more=more,
        headers=((b"retry-after", b"%d" % RETRY_S),),
    )
