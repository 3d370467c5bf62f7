"""The caller of an operation, and the origin that a call from the HTTP process carries."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from wad.api.operation import Access


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.  `name` is for limits and logs; `access` None: no rights.

    `sees_codes`: may see the QR codes of accounts.  `uid` and `email` are those of a user of the apps; `request_id` is
    the request's id, from the caller or else from the HTTP process.
    """

    name: str
    access: Access | None
    sees_codes: bool = False
    uid: str = ""
    email: str = ""
    request_id: str = ""


class CallOrigin(msgspec.Struct, frozen=True, array_like=True):
    """The credentials and address that the HTTP process forwards with a call; all of them are verified here.

    `token` is an API token or the id token of a user: None without credentials, empty for credentials without a token.
    `app_check` is the App Check token of the user's app.  The HTTP process sends `[params, origin]` as the parameters.
    """

    token: str | None = None
    app_check: str = ""
    address: str = ""
    request_id: str = ""
