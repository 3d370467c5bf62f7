"""What an HTTP request says: the caller's proofs, and the fields of the operation that it asks."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request

from wad.api.caller import CallOrigin
from wad.api.operation import Route
from wad.core.decoding import decoding
from wad.core.errors import BadInput, InvalidData, LegacyRefusal, TooLong

BODY_LIMIT: Final = 100 << 10
"""Bytes of a body, as in the replaced backend (docs/internals/replaced-backend.md#limits)."""
_REQUEST_ID: Final = 128  # characters of an X-Request-Id that come back
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9._:/+=-]+")
_ACCOUNT: Final = re.compile(r"[!-~]{1,200}")
_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def request_id(request: Request) -> str:
    """The caller's X-Request-Id, bounded and without what a log or a page would take for its own; empty for none."""
    return _NOT_IN_AN_ID.sub("", request.headers.get("x-request-id", ""))[:_REQUEST_ID]


def base_url(request: Request) -> str | None:
    """Scheme and host by which the caller reached us, or a proxy; None where the header is missing or odd."""
    host = request.headers.get("host", "")
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None


def origin(
    request: Request, ident: str, *, browser: bool = False, internal: bool = False
) -> CallOrigin:
    """What the daemon is told of the caller.

    With `browser` the token may also be the password that a browser asks its user for, with `internal` it may stand in
    the header of the replaced backend's observers.
    """
    token = _credentials(request, "bearer") or (_password(request) if browser else "")
    if internal:
        token = token or request.headers.get("x-internal-token", "")
    sent = "authorization" in request.headers
    return CallOrigin(
        token=token or ("" if sent else None),
        app_check=request.headers.get("x-firebase-appcheck", ""),
        # What a proxy claims besides is not asked.
        address=request.client.host if request.client is not None else "",
        request_id=ident,
    )


def _password(request: Request) -> str:
    """The password of basic authentication: the only way in which a browser sends a token by itself."""
    try:
        with decoding("the credentials"):
            pair = base64.b64decode(_credentials(request, "basic"), validate=True).decode()
    except InvalidData:
        return ""
    return pair.partition(":")[2]


def _credentials(request: Request, wanted: str) -> str:
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    return rest.strip() if scheme.lower() == wanted else ""


def params(request: Request, route: Route, body: bytes, kind: Any) -> dict[str, Any]:
    """The fields of the operation: of the body (JSON of this kind; None: it has none), the query and the path.

    Raises BadInput, LegacyRefusal 400.
    """
    found: dict[str, Any] = {}
    if kind is not None:
        content = _content(body, kind)
        found = content if isinstance(content, dict) else msgspec.structs.asdict(content)
    if route.query:
        given = _query(request)
        found |= {field: given[name] for name, field in route.query.items() if name in given}
    return found | request.path_params


class _Named(msgspec.Struct):
    account: str = msgspec.field(name="accountId", default="")


def account_meant(request: Request, body: bytes) -> str:
    """The account that a request names in its path or its body, which may be invalid otherwise; empty for none."""
    found = request.path_params.get("account")
    if found is None:
        try:
            with decoding("the body"):
                found = msgspec.json.decode(body, type=_Named).account
        except InvalidData:
            return ""
    return found if _ACCOUNT.fullmatch(found) else ""


def _query(request: Request) -> dict[str, str]:
    """What stands behind the question mark.  Raises BadInput for a name that comes twice."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadInput("a parameter is given twice")
    return found


def _content(body: bytes, kind: Any) -> Any:
    """The body, JSON of this kind.  Raises LegacyRefusal 400."""
    try:
        with decoding("the body"):
            return msgspec.json.decode(body or b"{}", type=kind)
    except InvalidData as error:
        raise LegacyRefusal(400, "invalid_request", str(error)) from error


async def body_of(request: Request) -> bytes:
    """All of it.  Raises TooLong, BadInput."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > BODY_LIMIT:
                raise TooLong(f"a body may have {BODY_LIMIT} bytes")
            parts.append(part)
    except ClientDisconnect as error:
        raise BadInput("the body ended early") from error
    return b"".join(parts)
