"""The error types of wad, with the code, the HTTP status and the exit code of each.

    WadError                    code                    HTTP  exit
    ├── BadInput                bad_input                400     2
    │   ├── BadJid              bad_jid                  400     2
    │   ├── BadPhone            bad_phone                400     2
    │   ├── InvalidData         invalid_data             400     2
    │   └── TooLong             too_long                 413     2
    ├── BadConfig               bad_config               500     6
    ├── NotFound                not_found                404     4
    │   ├── UnknownAccount      unknown_account          404     4
    │   └── UnknownOperation    unknown_operation        404     4
    ├── Conflict                conflict                 409     5
    ├── Denied                  denied                   403     7
    ├── NotConnected            not_connected            409     5
    ├── NotOnWhatsApp           not_on_whatsapp          422     5
    ├── Passive                 instance_passive         503     8
    ├── Fenced                  fenced                   503     8
    ├── Unavailable             unavailable              503     8
    │   ├── DaemonDown          daemon_down              503     3
    │   │   └── StartFailed     start_failed             503     3
    │   ├── Stopping            stopping                 503     8
    │   ├── StateUnwritable     state_unwritable         503     8
    │   └── AnotherDaemon       another_daemon           503     5
    ├── EngineFailure           engine_failure           502     9
    ├── TimedOut                timed_out                504     8
    ├── NotSupported            not_supported            501     9
    └── Damaged                 damaged                  500     9

The code crosses the socket and HTTP, and a client rebuilds the same class from it.  A LegacyRefusal carries the code
and the status that it was made with.  `hint` says what the reader can do.  Exit 1 means an error without a class of its
own (`internal`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class WadError(Exception):
    """An error with a stable code.  `str()` is one sentence without a full stop."""

    code: str = "internal"
    http_status: int = 500
    exit_code: ClassVar[int] = 1
    by_code: ClassVar[dict[str, type[WadError]]] = {}

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in vars(cls):
            WadError.by_code[cls.code] = cls

    def to_wire(self) -> dict[str, Any]:
        """The error as it crosses a socket."""
        return {"code": self.code, "message": str(self), "hint": self.hint}

    @staticmethod
    def from_wire(wire: object) -> WadError:
        """Rebuild the error that the peer raised; an unknown code gives a plain WadError."""
        if not isinstance(wire, dict):
            return WadError(f"the peer sent an invalid error: {wire!r}")
        if (status := wire.get("status")) is not None:
            return LegacyRefusal(
                status if type(status) is int and 400 <= status < 600 else 500,
                str(wire.get("code")),
                str(wire.get("message", "")),
                details if isinstance(details := wire.get("details"), dict) else None,
            )
        kind = WadError.by_code.get(str(wire.get("code")), WadError)
        return kind(str(wire.get("message", "")), hint=str(wire.get("hint", "")))


class BadInput(WadError):
    """The caller's input is invalid."""

    code, http_status, exit_code = "bad_input", 400, 2


class BadJid(BadInput):
    """The text is not a WhatsApp address."""

    code = "bad_jid"


class BadPhone(BadInput):
    """The text is not an international phone number."""

    code = "bad_phone"


class InvalidData(BadInput):
    """Data from outside of wad cannot be decoded."""

    code = "invalid_data"


class TooLong(BadInput):
    """The input is longer than WhatsApp or wad accepts."""

    code, http_status = "too_long", 413


class BadConfig(WadError):
    """The configuration is invalid; the message names the file and the line, or the variable."""

    code, exit_code = "bad_config", 6


class NotFound(WadError):
    """The object that the caller named does not exist."""

    code, http_status, exit_code = "not_found", 404, 4


class UnknownAccount(NotFound):
    """No account has this id or name."""

    code = "unknown_account"


class UnknownOperation(NotFound):
    """No operation has this name."""

    code = "unknown_operation"


class Conflict(WadError):
    """The request conflicts with the present state."""

    code, http_status, exit_code = "conflict", 409, 5


class Denied(WadError):
    """The caller lacks the permission."""

    code, http_status, exit_code = "denied", 403, 7


class NotConnected(WadError):
    """The account is not connected to WhatsApp now."""

    code, http_status, exit_code = "not_connected", 409, 5


class NotOnWhatsApp(WadError):
    """The number has no WhatsApp account."""

    code, http_status, exit_code = "not_on_whatsapp", 422, 5


class Passive(WadError):
    """Another instance holds the lease; this one must not act."""

    code, http_status, exit_code = "instance_passive", 503, 8


class Fenced(WadError):
    """The store refused an exclusive write because its epoch is outdated."""

    code, http_status, exit_code = "fenced", 503, 8


class Unavailable(WadError):
    """Something that the request needs is unreachable now; a later retry may succeed."""

    code, http_status, exit_code = "unavailable", 503, 8


class DaemonDown(Unavailable):
    """No daemon answers on the control socket."""

    code, exit_code = "daemon_down", 3


class StartFailed(DaemonDown):
    """The daemon does not run and is not retried: an operator has to fix the fault that the message names."""

    code = "start_failed"


class Stopping(Unavailable):
    """The daemon is stopping and has not begun the request: a client may send it to the next daemon."""

    code = "stopping"


class StateUnwritable(Unavailable):
    """The state directory is not writable (mode, owner, read-only or full disk)."""

    code = "state_unwritable"


class AnotherDaemon(Unavailable):
    """Another daemon already owns this state directory."""

    code, exit_code = "another_daemon", 5


class EngineFailure(WadError):
    """WhatsApp, or the library that connects to it, refused or failed."""

    code, http_status, exit_code = "engine_failure", 502, 9


class TimedOut(WadError):
    """No answer arrived in time; the request may or may not have taken effect."""

    code, http_status, exit_code = "timed_out", 504, 8


class NotSupported(WadError):
    """This engine, or this build of the library, does not support the request."""

    code, http_status, exit_code = "not_supported", 501, 9


class Damaged(WadError):
    """A file of wad cannot be read; it was set aside, not deleted."""

    code, exit_code = "damaged", 9


class LegacyRefusal(WadError):
    """A refusal with a status and a code of the legacy HTTP contract, which the apps depend on.

    `details`: further fields of the answer, JSON types only.
    """

    exit_code = 9

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.http_status = status
        self.code = code
        self.details = dict(details or {})

    def to_wire(self) -> dict[str, Any]:
        """The error as it crosses a socket, with the status and the details."""
        return {**super().to_wire(), "status": self.http_status, "details": self.details}
