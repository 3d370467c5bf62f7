"""`GET /openapi.json`: what can be asked over HTTP, made from the operations and the routes themselves.

The description is OpenAPI 3.1, whose schemas are JSON Schema as msgspec writes it.  Answers in the form of the replaced
backend are described by what is common to them.
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
    400: "the request cannot be used",
    401: "no token, or one that proves nothing",
    403: "the role does not allow it",
    404: "what was named does not exist",
    409: "not possible in the present state",
    413: "too long",
    422: "the number is not on WhatsApp",
    429: "too many changes by this caller",
    500: "a fault of wad's own",
    501: "wad does not do this",
    502: "WhatsApp refused, or its library failed",
    503: "another instance acts, or something cannot be reached now",
    504: "no answer in time",
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
_NEEDED: Final = frozenset({"accountId", "storagePath", "clientJid"})
_PROBES: Final = {
    "/health": "The whole daemon in numbers.",
    "/health/detailed": "Every account's connection.",
    "/healthz": "The process answers.",
    "/ready": "Whether this instance acts.",
    "/readyz": "Whether to send requests here.",
    "/diag": "The lease, and who heard something last.",
    "/api/status/dashboard": "Every account at a glance.",
    "/metrics": "For Prometheus; of each account with a token only.",
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
    """The whole document."""
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
            "description": "A daemon that owns WhatsApp accounts; docs/http.md says more.",
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
    """Every type of a body or a reply."""
    found: list[Any] = []
    for operation, route in rows():
        if route.body is not None:
            found.append(route.body)
        if _is_plain(route):
            found.append(operation.reply)
    return found


def _is_plain(route: Route) -> bool:
    """Whether it answers with the operation's own reply."""
    return route.path.startswith("/api/operations/")


def _probe(path: str, text: str) -> _Schema:
    kind = "text/plain" if path == "/metrics" else "application/json"
    answers: dict[str, _Schema] = {"200": {"description": "OK", "content": {kind: {"schema": {}}}}}
    if path in ("/health", "/readyz"):
        answers["503"] = answers["200"] | {"description": "not well, or not ready"}
    named = {"operationId": path.strip("/").replace("/", "_"), "summary": text}
    if path == "/metrics":
        return {**named, "security": [{"token": []}, {}], "responses": answers | _bad()}
    return {**named, "responses": answers}


def _operation(operation: Operation, route: Route) -> _Schema:
    headerless = operation.http is not None and operation.http.headerless
    document: _Schema = {
        "operationId": _ident(route),
        "summary": operation.help,
        "description": _needs(operation),
        "security": [{"token": []}, {}] if headerless else [{"token": []}],
        "parameters": _parameters(route),
        "responses": {"200": _good(operation, route)} | _bad(),
    }
    if route.body is not None:
        reference = msgspec.json.schema_components([route.body], ref_template=_REF)[0][0]
        document["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": reference}},
        }
    if operation.name == "contract.regenerate_qr":
        document["responses"]["202"] = _good(operation, route) | {
            "description": "a code comes already"
        }
    return document


def _ident(route: Route) -> str:
    words = re.findall(r"\w+", route.path.removeprefix("/api/"))
    return "_".join([route.method.lower(), *words])


_ROLES: Final = {Access.READ: "viewer", Access.OPERATE: "employee", Access.ADMIN: "admin"}


def _needs(operation: Operation) -> str:
    assert operation.http is not None
    limit = operation.http.limit
    limited = "" if limit is None else f" Limited: {limit} by one caller in a minute."
    role = _ROLES[operation.http_access]
    return f"For the role {role} and those above.{limited}"


def _parameters(route: Route) -> list[_Schema]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    in_query = [
        {"name": name, "in": "query", "required": name in _NEEDED, "schema": _QUERY[name]}
        for name in route.query
    ]
    return in_path + in_query


def _good(operation: Operation, route: Route) -> _Schema:
    if route.browser:
        return {"description": "OK", "content": {"text/html": {"schema": {"type": "string"}}}}
    schema: _Schema = {"$ref": _REF.format(name="Success")}
    if _is_plain(route):
        replies = msgspec.json.schema_components([operation.reply], ref_template=_REF)
        schema = replies[0][0]
    return {"description": "OK", "content": {"application/json": {"schema": schema}}}


def _bad() -> dict[str, _Schema]:
    schema = {"$ref": _REF.format(name="Failure")}
    content = {"application/json": {"schema": schema}}
    return {
        str(status): {"description": text, "content": content} for status, text in _ERRORS.items()
    }
