"""Who asks, and what a call from the HTTP process carries besides the request."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from wad.api.operation import Access


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is known.  `name` is for limits and logs; `access` None: may do nothing.

    `sees_codes`: is shown an account's QR code.  `uid` and `email` are those of a user of the apps; `request_id` is the
    name that the caller gave this request, or the HTTP process.
    """

    name: str
    access: Access | None
    sees_codes: bool = False
    uid: str = ""
    email: str = ""
    request_id: str = ""


class CallOrigin(msgspec.Struct, frozen=True, array_like=True):
    """What a call from the HTTP process says of its caller: proofs and an address, none of which is believed as such.

    `token` is an API token or the id token of a user: None where no credentials were sent, empty where they hold none.
    `app_check` is the proof of the user's app.  The HTTP process sends `[params, origin]` in place of the parameters.
    """

    token: str | None = None
    app_check: str = ""
    address: str = ""
    request_id: str = ""
