"""`GET /openapi.json`: the OpenAPI 3.1 description of the HTTP API, generated from the operations and their routes.

The schemas are JSON Schema as msgspec generates it, all of them together, so that every reference has its target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

import wad
from wad.api.operation import Access, Operation, Route, find, operations
from wad.http.probes import PROBES

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
_ACCOUNT: Final = "acc-15550000001"
_JID: Final = "15550000002@s.whatsapp.net"
_QUERY: Final[Mapping[str, _Schema]] = {
    "limit": {"type": "integer", "minimum": 1, "default": 50},
    "after": {"type": "string", "pattern": "^$|^[0-9]{1,18}-[0-9]{1,18}-.+$"},
    "orderBy": {"type": "string", "enum": ["lastMessageAt", "createdAt", "tsClient"]},
    "accountId": {"type": "string", "minLength": 1, "examples": [_ACCOUNT]},
    "threadId": {"type": "string", "examples": [f"{_ACCOUNT}__{_JID}"]},
    "storagePath": {"type": "string", "pattern": "^whatsapp_media/"},
    "clientJid": {"type": "string", "minLength": 1, "examples": [_JID]},
}
_IN_PATH: Final[Mapping[str, _Schema]] = {
    "account": {"type": "string", "minLength": 1, "examples": [_ACCOUNT]},
    "thread": {"type": "string", "minLength": 1, "examples": [f"{_ACCOUNT}__{_JID}"]},
}
_REQUIRED: Final = frozenset({"accountId", "storagePath", "clientJid"})
_TAGS: Final = {
    "probes": "For load balancers and monitoring; without a token.",
    "apps": "The routes of the replaced backend, for its apps.",
    "accounts": "Accounts, their pairing and their sessions.",
    "messages": "Threads, messages, and the outbox.",
    "daemon": "The daemon, its configuration, its lease, and what is in quarantine.",
}
_TAG_OF: Final = {
    "contract": "apps",
    "accounts": "accounts",
    "sessions": "accounts",
    "messages": "messages",
    "threads": "messages",
    "outbox": "messages",
}
_NOT_READY: Final = ("/health", "/readyz")
_UNSUPPORTED: Final = ("contract.media_url", "contract.profile_photo")


_Row = tuple[Operation, Route]


def rows() -> tuple[_Row, ...]:
    """Every route with its operation."""
    return tuple(
        (operation, route)
        for operation in operations().values()
        if operation.http is not None
        for route in operation.http.routes
    )


class _Schemas:
    """The schemas of all types, generated together: a name that two types share becomes two names."""

    def __init__(self, kinds: list[Any]) -> None:
        found, self.components = msgspec.json.schema_components(kinds, ref_template=_REF)
        self._kinds, self._found = kinds, found

    def of(self, kind: Any) -> _Schema:
        """The schema of a type, or a reference to it."""
        found: _Schema = self._found[self._kinds.index(kind)]
        return found


def description() -> _Schema:
    """The OpenAPI document."""
    schemas = _Schemas(_kinds())
    paths: dict[str, dict[str, _Schema]] = {
        path: {"get": _probe(path, find(name), schemas)} for path, name in PROBES.items()
    }
    paths["/metrics"] = {"get": _metrics()}
    for operation, route in rows():
        described = _operation(operation, route, schemas)
        paths.setdefault(route.path, {})[route.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wad",
            "version": wad.__version__,
            "description": "A daemon that owns WhatsApp accounts; see docs/http.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components, "Failure": _failure()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A static token, or the id token of a signed-in user.",
                },
            },
        },
    }


def _kinds() -> list[Any]:
    """The types of all bodies and replies, each once."""
    kinds: list[Any] = []
    for operation, route in rows():
        kinds += [kind for kind in (route.body,) if kind is not None]
        kinds.append(operation.reply)
    kinds += [find(name).reply for name in PROBES.values()]
    return [kind for at, kind in enumerate(kinds) if kind not in kinds[:at]]


def _failure() -> _Schema:
    return {
        "title": "Failure",
        "description": "An error.  Further fields depend on its code.",
        "type": "object",
        "properties": {
            "success": {"const": False},
            "error": {"type": "string", "description": "the code", "examples": ["not_found"]},
            "message": {"type": "string", "description": "what happened, as a sentence"},
            "hint": {"type": "string", "description": "what the caller can do"},
            "code": {"type": "string", "description": "the reason for `unauthorized`"},
            "requestId": {"type": "string"},
            "accountId": {"type": "string"},
            "retryAfterSeconds": {"type": "integer", "minimum": 1},
        },
        "required": ["success", "error", "message"],
    }


# --- operations -----------------------------------------------------------------------------------


def _probe(path: str, operation: Operation, schemas: _Schemas) -> _Schema:
    """The description of a probe: a daemon that does not answer is a failure, whatever the probe."""
    reply, failure = schemas.of(operation.reply), {"$ref": _REF.format(name="Failure")}
    not_ready = {"anyOf": [reply, failure]} if path in _NOT_READY else failure
    return {
        "operationId": path.strip("/").replace("/", "_"),
        "tags": ["probes"],
        "summary": operation.help,
        "responses": {
            "200": {"description": "OK", "content": _json(reply)},
            "503": {
                "description": "not healthy, not ready, or the daemon does not answer",
                "content": _json(not_ready),
            },
            **_failures(500, 504),
        },
    }


def _metrics() -> _Schema:
    """The description of /metrics, which is a text."""
    return {
        "operationId": "metrics",
        "tags": ["probes"],
        "summary": "Metrics for Prometheus; those of each account need a token.",
        "security": [{"token": []}, {}],
        "responses": {
            "200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **_failures(*_ERRORS),
        },
    }


def _operation(operation: Operation, route: Route, schemas: _Schemas) -> _Schema:
    assert operation.http is not None
    document: _Schema = {
        "operationId": _ident(route),
        "tags": [_TAG_OF.get(operation.name.partition(".")[0], "daemon")],
        "summary": operation.help,
        "description": _requirements(operation),
        "security": [{"token": []}, {}] if operation.http.headerless else [{"token": []}],
        "parameters": _parameters(route),
        "responses": _successes(operation, route, schemas) | _failures(*_ERRORS),
    }
    if route.body is not None:
        body = _json(schemas.of(route.body))
        document["requestBody"] = {"required": True, "content": body}
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
        {"name": name, "in": "path", "required": True, "schema": _IN_PATH[name]}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    in_query = [
        {"name": name, "in": "query", "required": name in _REQUIRED, "schema": _QUERY[name]}
        for name in route.query
    ]
    return in_path + in_query


def _successes(operation: Operation, route: Route, schemas: _Schemas) -> dict[str, _Schema]:
    if operation.name in _UNSUPPORTED:
        return {}
    if route.browser:
        return {
            "200": {"description": "OK", "content": {"text/html": {"schema": {"type": "string"}}}}
        }
    found: _Schema = {"description": "OK", "content": _json(schemas.of(operation.reply))}
    if operation.name == "contract.regenerate_qr":
        in_progress = {**found, "description": "a code is being requested already"}
        return {"200": found, "202": in_progress}
    return {"200": found}


def _json(schema: _Schema) -> _Schema:
    return {"application/json": {"schema": schema}}


def _failures(*statuses: int) -> dict[str, _Schema]:
    content = _json({"$ref": _REF.format(name="Failure")})
    return {
        str(status): {"description": _ERRORS[status], "content": content} for status in statuses
    }
