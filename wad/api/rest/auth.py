"""Who asks over HTTP, and what they may do.  Nobody may do anything until a token says who they are."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wad.api.operation import Access
from wad.api.rest.exchange import Header, HttpError, Request
from wad.core.decoding import decoding
from wad.core.errors import InvalidData
from wad.core.guesses import Guesses
from wad.core.networks import is_inside, networks
from wad.core.token import Role, hashed, parse, weakness

if TYPE_CHECKING:
    from wad.api.rest.users import Users
    from wad.config.settings import HttpSettings

log = logging.getLogger(__name__)

ACCESS: Final[Mapping[Role, Access]] = {
    Role.VIEWER: Access.READ,
    Role.EMPLOYEE: Access.OPERATE,
    Role.ADMIN: Access.ADMIN,
}
_LONGEST: Final = 8192  # characters of a token
_RETRY_S: Final = 10
_GUESSED: Final = frozenset(
    ("unknown_token", "invalid_token", "wrong_algorithm", "unknown_key", "invalid_signature")
)
"""Refusals of what nobody has issued.  A token that has expired is none: its app must learn so at once."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is known.  `name` is for limits and logs; `access` None: may do nothing.

    `sees_codes`: is shown an account's QR code.  `uid` and `email` are those of a user of the apps.
    """

    name: str
    access: Access | None
    sees_codes: bool = False
    uid: str = ""
    email: str = ""


def _known(name: str, access: Access | None, uid: str = "", email: str = "") -> Caller:
    return Caller(name, access, access is Access.ADMIN, uid, email)


class Tokens:
    """The static tokens of the configuration."""

    def __init__(self, settings: HttpSettings) -> None:
        self._callers = {
            token.sha256: _known(f"token {token.name}", ACCESS[token.role])
            for token in parse(settings.tokens)
        }
        if settings.admin_token:
            self._callers[hashed(settings.admin_token)] = _known("admin_token", Access.ADMIN)

    def find(self, token: str) -> Caller | None:
        """Whose token this is.  By its hash: how long the search takes tells nothing of a token."""
        return self._callers.get(hashed(token))


class Gate:
    """Finds out who asks."""

    def __init__(
        self,
        settings: HttpSettings,
        users: Users | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`now` gives seconds."""
        self._tokens = Tokens(settings)
        self._users = users
        self._guesses = Guesses(now)
        self._sleep = sleep
        self._weak: set[str] = set()  # callers of whom was said that their token is
        self._trusted = networks(settings.headerless_networks)
        self._headerless = Caller("a trusted network", Access.ADMIN, settings.headerless_qr)

    async def caller(
        self,
        request: Request,
        *,
        browser: bool = False,
        headerless: bool = False,
        internal: bool = False,
    ) -> Caller:
        """Who asks.  Raises HttpError.

        With `browser` the token may also be the password that a browser asks its user for; with `headerless` a
        trusted network needs none; with `internal` it may stand in the header of the reference's observers.
        """
        token = _bearer(request) or (_password(request) if browser else "")
        if internal:
            token = token or request.header(b"x-internal-token").decode("latin-1")
        challenge = (_BASIC,) if browser else (_BEARER,)
        if not token:
            if headerless and self._is_trusted(request):
                return self._headerless
            raise HttpError(
                401,
                "missing_auth_token",
                "send Authorization: Bearer TOKEN",
                headers=challenge,
            )
        try:
            return await self._found(token, request, challenge)
        except HttpError as error:
            if (error.more or {}).get("code") in _GUESSED:
                await self._hold(request.address)
            raise

    async def _found(self, token: str, request: Request, challenge: tuple[Header, ...]) -> Caller:
        if len(token) <= _LONGEST:
            if (caller := self._tokens.find(token)) is not None:
                self._look_at(caller, token)
                return caller
            if self._users is not None and token.count(".") == 2:
                claims, access = await self._users.find(token, request)
                return _known(f"user {claims.sub}", access, claims.sub, claims.email)
        raise HttpError(
            401,
            "unauthorized",
            "this token is not known here",
            more={"code": "unknown_token"},
            headers=challenge,
        )

    def _look_at(self, caller: Caller, token: str) -> None:
        """Say once of each token that it can be guessed: of http.tokens only the hash is known before it is used."""
        if caller.name not in self._weak and (why := weakness(token)):
            self._weak.add(caller.name)
            log.warning("%s %s and can be guessed", caller.name, why, extra={"code": "weak_token"})

    async def _hold(self, address: str) -> None:
        """Hold the answer to a wrong token back.  Raises HttpError 429 where too many are held."""
        pause = self._guesses.wrong(address)
        if (report := self._guesses.report()) is not None:
            log.warning("%s", report, extra={"code": "wrong_tokens"})
        if pause is None:
            raise HttpError(
                429,
                "too_many_wrong_tokens",
                "too many wrong tokens; try again later",
                more={"retryAfterSeconds": _RETRY_S},
                headers=((b"retry-after", b"%d" % _RETRY_S), (b"connection", b"close")),
            )
        if pause > 0:
            try:
                await self._sleep(pause)
            finally:
                self._guesses.answered(address)

    def _is_trusted(self, request: Request) -> bool:
        no_header = not request.header(b"authorization")
        return no_header and is_inside(request.address, self._trusted)


_BEARER: Final[Header] = (b"www-authenticate", b"Bearer")
_BASIC: Final[Header] = (b"www-authenticate", b'Basic realm="wad: any name, the token as password"')


def check_access(caller: Caller, wanted: Access) -> None:
    """Raises HttpError when this caller may not."""
    if caller.access is None:
        raise HttpError(403, "forbidden", "you have no role here; ask an administrator")
    if caller.access < wanted:
        raise HttpError(403, "forbidden", f"this needs the right to {wanted.name.lower()}")


def _bearer(request: Request) -> str:
    return _credentials(request, "bearer")


def _password(request: Request) -> str:
    """The password of basic authentication: the only way in which a browser sends a token by itself."""
    try:
        with decoding("the credentials"):
            pair = base64.b64decode(_credentials(request, "basic"), validate=True).decode()
    except InvalidData:
        return ""
    return pair.partition(":")[2]


def _credentials(request: Request, wanted: str) -> str:
    scheme, _, rest = request.header(b"authorization").decode("latin-1").partition(" ")
    return rest.strip() if scheme.lower() == wanted else ""
