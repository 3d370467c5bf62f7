"""Who asks over HTTP, and what they may do.  Nobody may do anything until a token says who they are.

The daemon decides that.  What the HTTP process says of a caller are proofs to verify (`CallOrigin`); it has no rights
by being who it is, and none of what it can send gives more than the tokens that pass through it.
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
"""Refusals of what nobody has issued.  A token that has expired is none: its app must learn so at once."""


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


class Authenticator:
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
        self._most = ACCESS[Role(settings.max_role)]
        self._headerless = Caller(
            "a trusted network", min(Access.ADMIN, self._most), settings.headerless_qr
        )

    async def caller(self, origin: CallOrigin, *, headerless: bool = False) -> Caller:
        """Who asks; over HTTP nobody has more than `http.max_role` allows.

        With `headerless` a trusted network needs no token.  Raises Refusal.
        """
        if not origin.token:
            if headerless and origin.token is None and is_inside(origin.address, self._trusted):
                return replace(self._headerless, request_id=origin.request_id)
            raise LegacyRefusal(401, "missing_auth_token", "send Authorization: Bearer TOKEN")
        try:
            found = await self._found(origin.token, origin)
        except LegacyRefusal as refusal:
            if refusal.details.get("code") in _GUESSED:
                await self._hold(origin.address)
            raise
        access = None if found.access is None else min(found.access, self._most)
        return replace(
            found,
            access=access,
            sees_codes=access is Access.ADMIN,
            request_id=origin.request_id,
        )

    async def _found(self, token: str, origin: CallOrigin) -> Caller:
        if len(token) <= _LONGEST:
            if (caller := self._tokens.find(token)) is not None:
                self._look_at(caller, token)
                return caller
            if self._users is not None and token.count(".") == 2:
                claims, access = await self._users.find(origin)
                return _known(f"user {claims.sub}", access, claims.sub, claims.email)
        raise LegacyRefusal(
            401, "unauthorized", "this token is not known here", {"code": "unknown_token"}
        )

    def _look_at(self, caller: Caller, token: str) -> None:
        """Say once of each token that it can be guessed: of http.tokens only the hash is known before it is used."""
        if caller.name not in self._weak and (why := weakness(token)):
            self._weak.add(caller.name)
            log.warning("%s %s and can be guessed", caller.name, why, extra={"code": "weak_token"})

    async def _hold(self, address: str) -> None:
        """Hold the answer to a wrong token back.  Raises Refusal 429 where too many are held."""
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
    """Raises Refusal when this caller may not."""
    if caller.access is None:
        raise LegacyRefusal(403, "forbidden", "you have no role here; ask an administrator")
    if caller.access < wanted:
        raise LegacyRefusal(403, "forbidden", f"this needs the right to {wanted.name.lower()}")
