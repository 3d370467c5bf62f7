"""Authentication of HTTP callers by token.  Without a valid token a caller has no rights.

The daemon verifies the credentials that the HTTP process forwards (`CallOrigin`).  The HTTP process itself has no
rights: it can do no more than the tokens that pass through it allow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wad.api.caller import Caller, CallOrigin
from wad.api.operation import Access
from wad.core.errors import LegacyRefusal
from wad.core.networks import is_inside, networks
from wad.core.token import Role, hashed, parse, weakness
from wad.core.token_guesses import Guesses

if TYPE_CHECKING:
    from wad.api.callers.users import Users
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
"""Error codes for tokens that were never issued.  An expired token is not one: its app must get the reply at once."""


def _caller(name: str, access: Access | None, uid: str = "", email: str = "") -> Caller:
    return Caller(name, access, access is Access.ADMIN, uid, email)


class Tokens:
    """The static tokens of the configuration."""

    def __init__(self, settings: HttpSettings) -> None:
        self._callers = {
            token.sha256: _caller(f"token {token.name}", ACCESS[token.role])
            for token in parse(settings.tokens)
        }
        if settings.admin_token:
            self._callers[hashed(settings.admin_token)] = _caller("admin_token", Access.ADMIN)

    def find(self, token: str) -> Caller | None:
        """The token's caller.  Looked up by hash, so that the time it takes reveals nothing about a token."""
        return self._callers.get(hashed(token))


class Authenticator:
    """Authenticates the callers of HTTP requests."""

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
        self._weak: set[str] = set()  # callers whose weak token was logged
        self._trusted = networks(settings.headerless_networks)
        self._most = ACCESS[Role(settings.max_role)]
        self._headerless = Caller(
            "a trusted network", min(Access.ADMIN, self._most), settings.headerless_qr
        )

    async def caller(self, origin: CallOrigin, *, headerless: bool = False) -> Caller:
        """The caller, with at most the access of `http.max_role`.

        With `headerless` a trusted network needs no token.  Raises LegacyRefusal.
        """
        if not origin.token:
            if headerless and origin.token is None and is_inside(origin.address, self._trusted):
                return replace(self._headerless, request_id=origin.request_id)
            raise LegacyRefusal(401, "missing_auth_token", "send Authorization: Bearer TOKEN")
        try:
            found = await self._authenticated(origin.token, origin)
        except LegacyRefusal as refusal:
            if refusal.details.get("code") in _GUESSED:
                await self._delay(origin.address)
            raise
        access = None if found.access is None else min(found.access, self._most)
        return replace(
            found,
            access=access,
            sees_codes=access is Access.ADMIN,
            request_id=origin.request_id,
        )

    async def _authenticated(self, token: str, origin: CallOrigin) -> Caller:
        if len(token) <= _LONGEST:
            if (caller := self._tokens.find(token)) is not None:
                self._warn_if_weak(caller, token)
                return caller
            if self._users is not None and token.count(".") == 2:
                claims, access = await self._users.find(origin)
                return _caller(f"user {claims.sub}", access, claims.sub, claims.email)
        raise LegacyRefusal(401, "unauthorized", "unknown token", {"code": "unknown_token"})

    def _warn_if_weak(self, caller: Caller, token: str) -> None:
        """Log a weak token once, at its first use: of http.tokens only the hash is known before."""
        if caller.name not in self._weak and (why := weakness(token)):
            self._weak.add(caller.name)
            log.warning("%s %s and can be guessed", caller.name, why, extra={"code": "weak_token"})

    async def _delay(self, address: str) -> None:
        """Delay the reply to a wrong token.  Raises LegacyRefusal 429 when too many replies are delayed already."""
        pause = self._guesses.wrong(address)
        if (report := self._guesses.report()) is not None:
            log.warning("%s", report, extra={"code": "wrong_tokens"})
        if pause is None:
            raise LegacyRefusal(
                429,
                "too_many_wrong_tokens",
                "too many wrong tokens; try again later",
                {"retryAfterSeconds": _RETRY_S},
            )
        if pause > 0:
            try:
                await self._sleep(pause)
            finally:
                self._guesses.answered(address)


def check_access(caller: Caller, wanted: Access) -> None:
    """Raise LegacyRefusal when the caller lacks this access."""
    if caller.access is None:
        raise LegacyRefusal(403, "forbidden", "you have no role; ask an administrator")
    if caller.access < wanted:
        raise LegacyRefusal(403, "forbidden", f"this requires {wanted.name.lower()} access")
