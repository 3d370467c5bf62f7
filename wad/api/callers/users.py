"""Users of the apps: signed in with Firebase, in an app verified by App Check, each with a role.

Roles: administrators and employees are listed in the configuration; the store may list more employees; every other
signed-in user has `http.user_role`, which is none by default.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wad.api.caller import CallOrigin
from wad.api.operation import Access
from wad.core.errors import LegacyRefusal, Unavailable
from wad.core.id_token import BadToken, Claims, Expected, check

if TYPE_CHECKING:
    from wad.api.callers.keys import Keys
    from wad.config.settings import HttpSettings
    from wad.store.port import Staff

_CACHED_S: Final = 60.0  # how long the store's reply about an employee is cached
_CACHE_SIZE: Final = 10_000
_AT_ONCE: Final = 64  # tokens that may wait for keys or for the store at once


class Signer:
    """Verifies tokens of one kind; the keys and their library are loaded with the first token."""

    def __init__(
        self, expected: Expected, make_keys: Callable[[], Keys], now: Callable[[], float]
    ) -> None:
        self._expected = expected
        self._make_keys = make_keys
        self._now = now
        self._keys: Keys | None = None

    async def claims(self, text: str) -> Claims:
        """The verified claims of a token.  Raises BadToken, Unavailable."""
        if self._keys is None:
            await asyncio.to_thread(importlib.import_module, "wad.api.callers.keys")
            self._keys = self._keys or self._make_keys()
        from wad.api.callers.signed_tokens import parse, verify

        token = parse(text)
        key = await self._keys.find(token.key)
        if key is None:
            raise BadToken("unknown_key", "the token was signed with an unknown key")
        verify(token, key)
        check(token.claims, self._expected, self._now())
        return token.claims


@dataclass(frozen=True, slots=True)
class UserList:
    """A list of users by uid and by email address, which are never confused.

    A project that creates its own tokens can use any text as a uid, also another user's address.
    """

    uids: frozenset[str]
    addresses: frozenset[str]

    @staticmethod
    def parse(text: str) -> UserList:
        """Parse a configured list: an entry with an `@` is an address, any other, or one after `uid:`, a uid."""
        uids, addresses = set(), set()
        for word in filter(None, re.split(r"[\s,]+", text)):
            explicit = word.removeprefix("uid:")
            if explicit != word or "@" not in word:
                uids.add(explicit)
            else:
                addresses.add(_lower_ascii(word))
        return UserList(frozenset(uids - {""}), frozenset(addresses))

    def has(self, claims: Claims) -> bool:
        """Whether the user is listed; an address counts only when it was verified."""
        return claims.sub in self.uids or (
            claims.email_verified and _lower_ascii(claims.email) in self.addresses
        )


def _lower_ascii(address: str) -> str:
    """The address with ASCII letters in lower case; lowering other letters could make different addresses equal."""
    return "".join(char.lower() if char.isascii() else char for char in address)


class Users:
    """Authenticates users and determines their access."""

    def __init__(
        self,
        settings: HttpSettings,
        id_tokens: Signer,
        app_check: Signer | None,
        staff: Staff | None,
        now: Callable[[], float],
    ) -> None:
        self._admins = UserList.parse(settings.admins)
        self._employees = UserList.parse(settings.employees)
        self._default = Access.READ if settings.user_role == "viewer" else None
        self._id_tokens = id_tokens
        self._app_check = app_check
        self._staff = staff
        self._now = now
        self._cache: dict[str, tuple[bool, float]] = {}
        self._verifying = 0

    async def find(self, origin: CallOrigin) -> tuple[Claims, Access | None]:
        """The user's claims and access (None: no rights).  Raises LegacyRefusal."""
        if self._verifying >= _AT_ONCE:
            raise LegacyRefusal(
                503, "auth_busy", "too many tokens are being verified", {"retryAfterSeconds": 1}
            )
        self._verifying += 1
        try:
            claims = await self._claims(self._id_tokens, origin.token or "", "unauthorized")
            if self._app_check is not None:
                if not origin.app_check:
                    raise _refused("missing_app_check", "missing", "send X-Firebase-AppCheck")
                await self._claims(self._app_check, origin.app_check, "invalid_app_check")
            return claims, await self._access(claims)
        except Unavailable as error:
            raise LegacyRefusal(
                503, "auth_unavailable", str(error), {"retryAfterSeconds": 60}
            ) from error
        finally:
            self._verifying -= 1

    async def _claims(self, signer: Signer, token: str, error: str) -> Claims:
        try:
            return await signer.claims(token)
        except BadToken as bad:
            raise _refused(error, bad.code, str(bad)) from bad

    async def _access(self, claims: Claims) -> Access | None:
        if self._admins.has(claims):
            return Access.ADMIN
        if self._employees.has(claims) or await self._is_staff(claims.sub):
            return Access.OPERATE
        return self._default

    async def _is_staff(self, uid: str) -> bool:
        if self._staff is None:
            return False
        known = self._cache.get(uid)
        if known is not None and self._now() < known[1]:
            return known[0]
        found = await self._staff.has(uid)
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[uid] = found, self._now() + _CACHED_S
        return found


def _refused(error: str, code: str, message: str) -> LegacyRefusal:
    return LegacyRefusal(401, error, message, {"code": code})


def users_of(settings: HttpSettings, staff: Staff | None, now: Callable[[], float]) -> Users | None:
    """The users of the configured project; None without one.  `now`: seconds since 1970."""
    project, number = settings.firebase_project, settings.app_check_project
    if not project:
        return None
    id_tokens = Signer(
        Expected(project, f"https://securetoken.google.com/{project}"),
        _keys_of(settings.firebase_keys, now),
        now,
    )
    app_check = Signer(
        Expected(f"projects/{number}", f"https://firebaseappcheck.googleapis.com/{number}"),
        _keys_of(settings.app_check_keys, now),
        now,
    )
    return Users(settings, id_tokens, app_check if number else None, staff, now)


def _keys_of(url: str, now: Callable[[], float]) -> Callable[[], Keys]:
    def make() -> Keys:
        from wad.api.callers.keys import Keys, fetch

        return Keys(url, fetch, now)

    return make
