"""The Starlette application: every path, from the declared operations; each request is a call to the daemon."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path
from starlette.types import ASGIApp, Receive, Scope, Send

from wad.api.operation import Access, Operation, Route, find, operations
from wad.core import wire
from wad.core.errors import NotFound, WadError
from wad.http import qr_image
from wad.http.cors import Origins, methods, pattern
from wad.http.daemon_client import SILENCE, DaemonLink
from wad.http.probes import PROBES, ProbeResponses
from wad.http.requests import account_named, body_of, origin, params, request_id
from wad.http.responses import document, failure, raw, refusal
from wad.lib.clock import Clock

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
Ask = Callable[[], Awaitable[Any]]

_POLICY: Final = "default-src 'none'; img-src data:; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class DaemonLinks:
    """The ways to the daemon: a large answer on the one holds up no probe on the other."""

    probes: DaemonLink
    calls: DaemonLink


class Site:
    """Answers requests for as long as the process lives."""

    def __init__(self, daemon: DaemonLinks, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock
        self._description: Response | None = None
        self._app = Starlette(routes=self._paths(), exception_handlers={HTTPException: _unrouted})
        self._app.router.redirect_slashes = False
        self._answering: ASGIApp = self._app

    def allow(self, origins: str) -> None:
        """Let the pages of these web origins ask (`http.cors_origins`), and no others."""
        allowed = pattern(origins)
        self._answering = self._app if allowed is None else Origins(self._app, allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["path"].endswith(
            "\n"
        ):  # which Starlette takes for the path before it: what a proxy hides is open
            scope["path"] += "\n"
        await self._answering(scope, receive, send)

    # --- paths --------------------------------------------------------------------------------

    def _paths(self) -> list[Path]:
        endpoints: dict[str, dict[str, Endpoint]] = {
            path: {"GET": self._probe(name)} for path, name in PROBES.items()
        }
        endpoints["/metrics"] = {"GET": self._metrics()}
        endpoints["/openapi.json"] = {"GET": self._describe}
        for operation in operations().values():
            for route in operation.http.routes if operation.http is not None else ():
                endpoints.setdefault(route.path, {})[route.method] = self._operation(
                    operation, route
                )
        return [
            Path(path, _by_method(methods), methods=list(methods))
            for path, methods in endpoints.items()
        ]

    def _probe(self, name: str) -> Endpoint:
        ask, responses = _question(self._daemon.probes, name, SILENCE), ProbeResponses(name)

        async def answer(request: Request) -> Response:
            return responses.response(await ask(), request)

        return _guarded(answer)

    def _metrics(self) -> Endpoint:
        """Of all accounts together for anybody, of each for who may look at them."""
        total = _question(self._daemon.calls, "metrics.total")

        async def answer(request: Request) -> Response:
            if request.headers.get("authorization"):
                who = msgspec.to_builtins(origin(request, ""))
                found = await self._daemon.calls.call(
                    "metrics.accounts", [{}, who], repeatable=True
                )
            else:
                found = await total()
            return raw(found["text"].encode(), found["content_type"])

        return _guarded(answer)

    async def _describe(self, request: Request) -> Response:
        """What can be asked; made when somebody wants to know."""
        if self._description is None:
            from wad.http.openapi import description

            self._description = document(description())
        return self._description

    def _operation(self, operation: Operation, route: Route) -> Endpoint:
        async def answer(request: Request) -> Response:
            ident = request_id(request)
            who = msgspec.to_builtins(
                origin(
                    request,
                    ident or f"req_{self._clock.wall_ms()}",
                    browser=route.browser,
                    internal=route.internal,
                )
            )
            call = await self._call(request, operation, route, ident, who)
            reply = await self._daemon.calls.ask(call, repeatable=operation.access <= Access.READ)
            if route.browser:
                return await _page(reply)
            if operation.name.startswith("contract."):
                await _draw(reply)
            return document(reply, _STATUS.get(operation.name, _ok)(reply))

        return _guarded(answer, browser=route.browser)

    async def _call(
        self, request: Request, operation: Operation, route: Route, ident: str, who: list[Any]
    ) -> wire.Call:
        """What the daemon is asked.  Raises WadError for a request that is invalid, or whose caller may not ask."""
        kind, body = route.body, b""
        try:
            if kind is not None:
                body = await body_of(request)
            # Of a plain route the operation itself says what does not fit.
            plain = kind is operation.request
            asked = params(request, route, body, dict[str, object] if plain else kind)
            if kind is not None and "request_id" in operation.request.__struct_fields__:
                asked["request_id"] = ident
            return wire.Call(operation.name, [asked, who])  # or the daemon hangs up
        except WadError:
            # Who may not ask hears that first; then whether the account is there, as in the replaced backend.
            account = "" if kind is None else account_named(request, body)
            wanted = {"operation": operation.name, "account": account}
            await self._daemon.calls.call("http.admit", [wanted, who], repeatable=True)
            raise


def _question(link: DaemonLink, name: str, within: float | None = None) -> Ask:
    """Asks an operation that anybody may ask; once for all who wait, where it is declared as shared."""
    call, rules = wire.Call(name, [{}, []]), find(name).http
    if rules is not None and rules.shared:
        return lambda: link.share(call, within=within)
    return lambda: link.ask(call, repeatable=True, within=within)


def _guarded(answer: Endpoint, *, browser: bool = False) -> Endpoint:
    """Every error becomes an answer."""

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except WadError as error:
            return refusal(error, browser=browser)
        except Exception as error:
            reference = secrets.token_hex(4)
            log.exception("%s failed (reference %s)", request.url.path, reference, exc_info=error)
            return refusal(
                WadError(
                    f"the request failed inside the HTTP process, reference {reference}",
                    hint=f"journalctl -u wad-http | grep -A30 {reference} shows why; please report it",
                )
            )

    return endpoint


def _by_method(methods: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


async def _unrouted(request: Request, error: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(error, HTTPException)
    if request.method == "OPTIONS":
        return methods()
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        names = ", ".join(sorted(filter(None, allowed.replace(",", " ").split())))
        return failure(
            405, "method_not_allowed", f"this path takes {names} only", None, {"allow": names}
        )
    return refusal(NotFound("there is nothing at this path"))


# --- what an answer looks like --------------------------------------------------------------------


def _ok(reply: Any) -> int:
    return 200


def _asked_already(reply: Any) -> int:
    return 202 if reply.get("status") == "already_in_progress" else 200


_STATUS: Final[Mapping[str, Callable[[Any], int]]] = {"contract.regenerate_qr": _asked_already}


async def _page(reply: Any) -> Response:
    """The page of an account's QR code."""
    picture = await qr_image.data_url(reply["qrCode"]) if reply["qrCode"] else None
    page = qr_image.page(reply["name"], reply["status"], picture)
    return raw(page, "text/html; charset=utf-8", headers={"content-security-policy": _POLICY})


async def _draw(reply: dict[str, Any]) -> None:
    """Make a picture of each QR code, as the apps show it."""
    for row in (reply, reply.get("account"), *reply.get("accounts", ())):
        if isinstance(row, dict) and isinstance(row.get("qrCode"), str):
            row["qrCode"] = await qr_image.data_url(row["qrCode"])
