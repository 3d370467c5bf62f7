"""Reads HTTP requests: the caller's credentials, and the parameters of the requested operation."""

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

_REQUEST_ID: Final = 128  # characters of an X-Request-Id that are returned
_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9._:/+=-]+")
_ACCOUNT: Final = re.compile(r"[!-~]{1,200}")
_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


def request_id(request: Request) -> str:
    """The caller's X-Request-Id, shortened and without characters that are special in logs or pages; or empty."""
    return _NOT_IN_AN_ID.sub("", request.headers.get("x-request-id", ""))[:_REQUEST_ID]


def base_url(request: Request) -> str | None:
    """The scheme and host that the caller used, also through a proxy; None if the header is missing or invalid."""
    host = request.headers.get("host", "")
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else None


def origin(
    request: Request, ident: str, *, browser: bool = False, internal: bool = False
) -> CallOrigin:
    """The caller's credentials and address for the daemon.

    With `browser` the token may be sent as the password of basic authentication, with `internal` in the header that
    the replaced backend's monitoring uses.
    """
    token = _credentials(request, "bearer") or (_password(request) if browser else "")
    if internal:
        token = token or request.headers.get("x-internal-token", "")
    sent = "authorization" in request.headers
    return CallOrigin(
        token=token or ("" if sent else None),
        app_check=request.headers.get("x-firebase-appcheck", ""),
        # Headers that a proxy adds are not used.
        address=request.client.host if request.client is not None else "",
        request_id=ident,
    )


def _password(request: Request) -> str:
    """The password of basic authentication, which a browser prompts for."""
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
    """The operation's parameters from the body (JSON of type `kind`; None: no body), the query and the path.

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


def account_named(request: Request, body: bytes) -> str:
    """The account in the path, the query or the body of a request, whose other fields may be invalid; else empty."""
    found = request.path_params.get("account") or request.query_params.get("accountId")
    if found is None:
        try:
            with decoding("the body"):
                found = msgspec.json.decode(body, type=_Named).account
        except InvalidData:
            return ""
    return found if _ACCOUNT.fullmatch(found) else ""


def _query(request: Request) -> dict[str, str]:
    """The parameters in the query string.  Raises BadInput for a duplicate name."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadInput("duplicate parameter in the query string")
    return found


def _content(body: bytes, kind: Any) -> Any:
    """The body as JSON of type `kind`.  Raises LegacyRefusal 400."""
    try:
        with decoding("the body"):
            return msgspec.json.decode(body or b"{}", type=kind)
    except InvalidData as error:
        raise LegacyRefusal(400, "invalid_request", str(error)) from error


async def body_of(request: Request, limit: int) -> bytes:
    """The bytes of the body, at most `limit`.  Raises TooLong, BadInput."""
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise TooLong(f"the body is limited to {limit} bytes")
            parts.append(part)
    except ClientDisconnect as error:
        raise BadInput("the body ended early") from error
    return b"".join(parts)
