"""Everything that is answered over HTTP: probes first, then the routes; an error becomes an answer here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wad.api.dispatch import internal_error
from wad.api.rest import (
    accounts,
    conversations,
    observed,
    operations,
    proxies,
    sending,
    settings,
)
from wad.api.rest.auth import Gate
from wad.api.rest.cors import Cors
from wad.api.rest.exchange import Answer, Header, HttpError, Request, document, failure, refusal
from wad.api.rest.limits import Limits, rates_of
from wad.api.rest.probes import PROBES, Probe, metrics_for
from wad.api.rest.routing import Desk, Router, passive_error
from wad.api.rest.users import users_of
from wad.core.errors import NotFound, Passive, WadError

if TYPE_CHECKING:
    from wad.api.context import Context

_ALLOW: Final[Header] = (b"allow", b"GET, HEAD")


class Site:
    """Answers requests for as long as the daemon lives."""

    def __init__(self, context: Context) -> None:
        http = context.loaded.config.http
        self._context = context
        self._cors = Cors(http.cors_origins)
        self.router = Router(
            (
                *accounts.ROUTES,
                *conversations.ROUTES,
                *sending.ROUTES,
                *settings.ROUTES,
                *observed.ROUTES,
                *proxies.ROUTES,
                *operations.routes(),
            )
        )
        limits = Limits(rates_of(http), context.clock.monotonic)
        gate = Gate(
            http,
            users_of(http, context.store.staff, lambda: context.clock.wall_ms() / 1000),
            context.clock.monotonic,
        )
        self._probes: dict[str, Probe] = {
            **PROBES,
            "/metrics": metrics_for(gate),
            "/openapi.json": self._describe,
        }
        self._description: Answer | None = None
        self._desk = Desk(context, self.router, gate, limits)

    async def answer(self, request: Request) -> tuple[Answer, tuple[Header, ...]]:
        """The answer, and what its head says for pages of the web."""
        shared = self._cors.headers(request)
        if request.method == "OPTIONS":
            return self._cors.preflight(), shared
        return await self._answer(request), shared

    async def _answer(self, request: Request) -> Answer:
        try:
            probe = self._probes.get(request.path)
            if probe is not None:
                if request.method not in ("GET", "HEAD"):
                    return failure(
                        405,
                        "method_not_allowed",
                        "only GET and HEAD are answered here",
                        None,
                        _ALLOW,
                    )
                answer = probe(self._context, request)
                return answer if isinstance(answer, Answer) else await answer
            found = await self._desk.answer(request)
        except HttpError as error:
            return error.answer
        except Passive:
            return passive_error(self._context, request.ident).answer
        except WadError as error:
            return refusal(error)
        except Exception as error:
            return refusal(internal_error(self._context, request.path, error))
        return found or refusal(NotFound("there is nothing at this path"))

    def _describe(self, context: Context, request: Request) -> Answer:
        """What can be asked; made when somebody wants to know."""
        if self._description is None:
            from wad.api.rest.openapi import description

            self._description = document(200, description(self.router.routes))
        return self._description
