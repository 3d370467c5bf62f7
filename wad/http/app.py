"""The Starlette application: its routes come from the declared operations; each request is a call to the daemon."""

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

from wad.api.operation import BODY_LIMIT, Access, Operation, Route, find, operations
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
    """The links to the daemon: a large reply on one of them does not delay probes on the other."""

    probes: DaemonLink
    calls: DaemonLink


@dataclass(slots=True)
class _Asked:
    """A request to an operation: the caller's X-Request-Id, and the body once it has been read."""

    request: Request
    ident: str
    body: bytes = b""

    def account(self) -> dict[str, str]:
        """The account that the request names, as the apps expect it in an error; nothing if it names none."""
        named = account_named(self.request, self.body)
        return {"accountId": named} if named else {}


class Site:
    """The ASGI application."""

    def __init__(self, daemon: DaemonLinks, clock: Clock) -> None:
        self._daemon = daemon
        self._clock = clock
        self._description: Response | None = None
        self._app = Starlette(routes=self._paths(), exception_handlers={HTTPException: _unrouted})
        self._app.router.redirect_slashes = False
        self._entry: ASGIApp = self._app

    def allow(self, origins: str) -> None:
        """Allow web pages of these origins only (`http.cors_origins`)."""
        allowed = pattern(origins)
        self._entry = self._app if allowed is None else Origins(self._app, allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, as ASGI defines it."""
        if scope["path"].endswith(
            "\n"
        ):  # Starlette would ignore it: a path that a proxy blocks could be requested with it
            scope["path"] += "\n"
        await self._entry(scope, receive, send)

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
        ask, responses = _caller_of(self._daemon.probes, name, SILENCE), ProbeResponses(name)

        async def answer(request: Request) -> Response:
            return responses.response(await ask(), request)

        return _guarded(answer)

    def _metrics(self) -> Endpoint:
        """The metrics of all accounts together without a token, those of each account with one."""
        total = _caller_of(self._daemon.calls, "metrics.total")

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
        """The OpenAPI document, built with the first request for it."""
        if self._description is None:
            from wad.http.openapi import description

            self._description = document(description())
        return self._description

    def _operation(self, operation: Operation, route: Route) -> Endpoint:
        async def answer(request: Request) -> Response:
            asked = _Asked(request, request_id(request))
            shown = asked.ident or f"req_{self._clock.wall_ms()}"
            try:
                reply = await self._reply(asked, operation, route, shown)
            except WadError as error:
                about = {"requestId": shown} | asked.account()
                return refusal(error, browser=route.browser, about=about)
            if route.browser:
                return await _page(reply)
            if operation.name.startswith("contract."):
                await _draw(reply)
            return document(reply, _STATUS.get(operation.name, _ok)(reply))

        return _guarded(answer, browser=route.browser)

    async def _reply(self, asked: _Asked, operation: Operation, route: Route, shown: str) -> Any:
        """The daemon's reply.  Raises WadError."""
        who = msgspec.to_builtins(
            origin(asked.request, shown, browser=route.browser, internal=route.internal)
        )
        call = await self._call(asked, operation, route, who)
        return await self._daemon.calls.ask(call, repeatable=operation.access <= Access.READ)

    async def _call(
        self, asked: _Asked, operation: Operation, route: Route, who: list[Any]
    ) -> wire.EncodedCall:
        """The call to the daemon.  Raises WadError for an invalid request, or a caller without access."""
        kind, request = route.body, asked.request
        if kind is not None and route.body_limit > BODY_LIMIT:
            await self._admit(operation, who)  # nobody else makes it hold that much
        try:
            if kind is not None:
                asked.body = await body_of(request, route.body_limit)
            # For a plain route the operation itself validates the parameters.
            plain = kind is operation.request
            given = params(request, route, asked.body, dict[str, object] if plain else kind)
            if kind is not None and "request_id" in operation.request.__struct_fields__:
                given["request_id"] = asked.ident
            return wire.EncodedCall(
                operation.name, [given, who]
            )  # raises for parameters that a frame cannot carry
        except WadError:
            # Missing access is reported first, then an unknown account, as in the replaced backend.
            account = "" if kind is None else account_named(request, asked.body)
            await self._admit(operation, who, account)
            raise

    async def _admit(self, operation: Operation, who: list[Any], account: str = "") -> None:
        """Raise WadError if the caller may not use the operation, or the account does not exist."""
        wanted = {"operation": operation.name, "account": account}
        await self._daemon.calls.call("http.admit", [wanted, who], repeatable=True)


def _caller_of(link: DaemonLink, name: str, within: float | None = None) -> Ask:
    """A function that calls a public operation; a shared one is called once for all waiting requests."""
    call, rules = wire.EncodedCall(name, [{}, []]), find(name).http
    if rules is not None and rules.shared:
        return lambda: link.share(call, within=within)
    return lambda: link.ask(call, repeatable=True, within=within)


def _guarded(answer: Endpoint, *, browser: bool = False) -> Endpoint:
    """Wrap an endpoint so that every error becomes a response."""

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
                    f"internal error in the HTTP process, reference {reference}",
                    hint=f"journalctl -u wad-http | grep -A30 {reference} shows why; please report it",
                )
            )

    return endpoint


def _by_method(methods: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


async def _unrouted(request: Request, error: Exception) -> Response:
    """The response for an unknown path or a wrong method."""
    assert isinstance(error, HTTPException)
    if request.method == "OPTIONS":
        return methods()
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        names = ", ".join(sorted(filter(None, allowed.replace(",", " ").split())))
        return failure(
            405, "method_not_allowed", f"only {names} is allowed", None, {"allow": names}
        )
    return refusal(NotFound("no such path"))


# --- responses -------------------------------------------------------------------------------------


def _ok(reply: Any) -> int:
    return 200


def _pairing_status(reply: Any) -> int:
    return 202 if reply.get("status") == "already_in_progress" else 200


_STATUS: Final[Mapping[str, Callable[[Any], int]]] = {"contract.regenerate_qr": _pairing_status}


async def _page(reply: Any) -> Response:
    """The HTML page with an account's QR code."""
    picture = await qr_image.data_url(reply["qrCode"]) if reply["qrCode"] else None
    page = qr_image.page(reply["name"], reply["status"], picture)
    return raw(page, "text/html; charset=utf-8", headers={"content-security-policy": _POLICY})


async def _draw(reply: dict[str, Any]) -> None:
    """Replace each QR code with the data URL of its image."""
    for row in (reply, reply.get("account"), *reply.get("accounts", ())):
        if isinstance(row, dict) and isinstance(row.get("qrCode"), str):
            row["qrCode"] = await qr_image.data_url(row["qrCode"])
