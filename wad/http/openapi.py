"""`GET /openapi.json`: the OpenAPI 3.1 description of the HTTP API, generated from the operations and their routes.

The schemas are JSON Schema as msgspec generates it.  Replies in the format of the replaced backend are described only
by their common fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

import wad
from wad.api.operation import Access, Operation, Route, operations

_Schema = dict[str, Any]

_REF: Final = "#/components/schemas/{name}"
_ERRORS: Final = {
    400: "the request is invalid",
    401: "no token, or an invalid one",
    403: "the role does not allow it",
    404: "not found",
    409: "not possible in the current state",
    413: "too long",
    422: "the number is not on WhatsApp",
    429: "too many requests by this caller",
    500: "internal error",
    501: "not supported by wad",
    502: "WhatsApp refused the request, or the library failed",
    503: "another instance is active, or the service is unavailable",
    504: "timed out",
}
_QUERY: Final[Mapping[str, _Schema]] = {
    "limit": {"type": "integer", "minimum": 1, "default": 50},
    "after": {"type": "string", "pattern": "^$|^[0-9]{1,18}-[0-9]{1,18}-.+$"},
    "orderBy": {"type": "string", "enum": ["lastMessageAt", "createdAt", "tsClient"]},
    "accountId": {"type": "string", "minLength": 1},
    "threadId": {"type": "string"},
    "storagePath": {"type": "string", "pattern": "^whatsapp_media/"},
    "clientJid": {"type": "string", "minLength": 1},
}
_REQUIRED: Final = frozenset({"accountId", "storagePath", "clientJid"})
_PROBES: Final = {
    "/health": "The health of the daemon, with counts and problems.",
    "/health/detailed": "The connection of each account.",
    "/healthz": "Whether the process responds.",
    "/ready": "Whether this instance is active.",
    "/readyz": "Whether this instance can handle requests.",
    "/diag": "The lease, and the accounts with the latest events.",
    "/api/status/dashboard": "An overview of all accounts.",
    "/metrics": "Metrics for Prometheus; those of each account need a token.",
}


_Row = tuple[Operation, Route]


def rows() -> tuple[_Row, ...]:
    """Every route with its operation."""
    return tuple(
        (operation, route)
        for operation in operations().values()
        if operation.http is not None
        for route in operation.http.routes
    )


def description() -> _Schema:
    """The OpenAPI document."""
    paths: dict[str, dict[str, _Schema]] = {
        path: {"get": _probe(path, text)} for path, text in _PROBES.items()
    }
    for operation, route in rows():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(operation, route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wad",
            "version": wad.__version__,
            "description": "A daemon that owns WhatsApp accounts; see docs/http.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A static token, or the id token of a signed-in user.",
                },
            },
        },
    }


def _schemas() -> dict[str, _Schema]:
    _, components = msgspec.json.schema_components(_types(), ref_template=_REF)
    return {
        **components,
        "Success": {
            "type": "object",
            "properties": {"success": {"const": True}},
            "required": ["success"],
        },
        "Failure": {
            "type": "object",
            "properties": {
                "success": {"const": False},
                "error": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "code": {"type": "string"},
                "retryAfterSeconds": {"type": "integer", "minimum": 1},
            },
            "required": ["success", "error", "message"],
        },
    }


def _types() -> list[Any]:
    """The types of all bodies and replies."""
    found: list[Any] = []
    for operation, route in rows():
        if route.body is not None:
            found.append(route.body)
        if _is_plain(route):
            found.append(operation.reply)
    return found


def _is_plain(route: Route) -> bool:
    """Whether the route returns the operation's own reply."""
    return route.path.startswith("/api/operations/")


def _probe(path: str, text: str) -> _Schema:
    kind = "text/plain" if path == "/metrics" else "application/json"
    answers: dict[str, _Schema] = {"200": {"description": "OK", "content": {kind: {"schema": {}}}}}
    if path in ("/health", "/readyz"):
        answers["503"] = answers["200"] | {"description": "degraded, or not ready"}
    named = {"operationId": path.strip("/").replace("/", "_"), "summary": text}
    if path == "/metrics":
        return {**named, "security": [{"token": []}, {}], "responses": answers | _failures()}
    return {**named, "responses": answers}


def _operation(operation: Operation, route: Route) -> _Schema:
    headerless = operation.http is not None and operation.http.headerless
    document: _Schema = {
        "operationId": _ident(route),
        "summary": operation.help,
        "description": _requirements(operation),
        "security": [{"token": []}, {}] if headerless else [{"token": []}],
        "parameters": _parameters(route),
        "responses": {"200": _success(operation, route)} | _failures(),
    }
    if route.body is not None:
        reference = msgspec.json.schema_components([route.body], ref_template=_REF)[0][0]
        document["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    if operation.name == "contract.regenerate_qr":
        document["responses"]["202"] = _success(operation, route) | {
            "description": "a code is being requested already"
        }
    return document


def _ident(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix("/api/"))
    return "_".join([route.method.lower(), *words])


_ROLES: Final = {Access.READ: "viewer", Access.OPERATE: "employee", Access.ADMIN: "admin"}


def _requirements(operation: Operation) -> str:
    assert operation.http is not None
    limit = operation.http.limit
    limited = "" if limit is None else f" Rate-limited: {limit} per caller and minute."
    role = _ROLES[operation.http_access]
    return f"Requires the role {role} or higher.{limited}"


def _parameters(route: Route) -> list[_Schema]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    in_query = [
        {"name": name, "in": "query", "required": name in _REQUIRED, "schema": _QUERY[name]}
        for name in route.query
    ]
    return in_path + in_query


def _success(operation: Operation, route: Route) -> _Schema:
    if route.browser:
        return {"description": "OK", "content": {"text/html": {"schema": {"type": "string"}}}}
    schema: _Schema = {"$ref": _REF.format(name="Success")}
    if _is_plain(route):
        replies = msgspec.json.schema_components([operation.reply], ref_template=_REF)
        schema = replies[0][0]
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


def _failures() -> dict[str, _Schema]:
    schema = {"$ref": _REF.format(name="Failure")}
    content = {"application/json": {"schema": schema}}
    return {
        str(status): {"description": text, "content": content} for status, text in _ERRORS.items()
    }
