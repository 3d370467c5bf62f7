"""The facts about an installation that the doctor judges.  None and empty: not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wad.audit.reports import MessagesReport, ThreadsReport
from wad.core.errors import WadError

SYSTEMD: Final = 1
"""The pid of systemd, which listens until a connection starts the daemon (socket activation)."""
Document = Mapping[str, Any]
"""A reply of the daemon, undecoded: its fields differ between versions."""


@dataclass(frozen=True, slots=True)
class SettingValue:
    """A setting's value and source."""

    value: str | int | float | bool
    source: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration: `settings` of the running daemon (`live`), else those that it would start with.

    `problems` and `warnings` are about the configuration of the next start.
    """

    settings: Mapping[str, SettingValue]
    live: bool
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def text(self, key: str) -> str:
        """A setting as text; empty if it is not known."""
        found = self.settings.get(key)
        return "" if found is None else str(found.value)

    def number(self, key: str) -> int:
        """A setting as a whole number; 0 if it is not known."""
        found = self.settings.get(key)
        return int(found.value) if found is not None else 0


@dataclass(frozen=True, slots=True)
class Credentials:
    """The Firestore credentials: their source, their project, and what is wrong with them.

    `exposed`: their file, if it is readable by everyone.
    """

    source: str
    project: str = ""
    exposed: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """The state of wad.service (`systemctl show`).  `failure`: why it does not start, from its own status text."""

    load: str
    active: str
    sub: str
    enabled: str
    restarts: int
    pid: int
    user: str
    failure: str = ""

    @property
    def runs(self) -> bool:
        """Whether its process runs."""
        return self.active == "active" and self.pid != 0


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket; `pid` is None if the kernel does not show it."""

    port: int
    address: str
    pid: int | None
    command: str


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system of a path."""

    path: str
    at: str
    kind: str
    read_only: bool
    free_mb: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory: paths of another owner (`foreign`), paths that others may read (`exposed`).

    `hidden`: we may not read it.
    """

    path: str
    exists: bool
    owner: str = ""
    mode: int = 0
    foreign: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """One account's directory: its session, and counts of its content.  `error`: why it cannot be read."""

    account: str
    paired: bool = False
    enabled: bool = True
    pre_keys: int = 0
    sessions: int = 0
    app_state_keys: int = 0
    app_state_versions: int = 0
    set_aside: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An HTTP response.  `status` 0: there was none, and `error` is the reason; `document` None: not a JSON object."""

    status: int
    document: Document | None = None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RestartComparison:
    """The accounts in `status` before and after a restart; `error`: why the daemon did not come back."""

    before: tuple[Document, ...]
    after: tuple[Document, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Audits:
    """The two audits, or the error that prevented them."""

    messages: MessagesReport | None = None
    threads: ThreadsReport | None = None
    error: WadError | None = None


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    """All facts.  `daemon`: its `status`; `daemon_error`: why there is none; `user`: the user that it runs as.

    `http`: the HTTP processes and their versions, which are empty if the daemon does not report them.
    """

    version: str
    hostname: str
    configuration: Configuration
    systemd: bool
    unit: Unit | None
    daemon: Document | None
    daemon_error: WadError | None
    user: str
    listeners: tuple[Listener, ...]
    mounts: tuple[Mount, ...]
    sessions: Directory
    accounts: tuple[SessionCounts, ...]
    health: HttpAnswer | None
    ready: HttpAnswer | None
    dashboard: HttpAnswer | None
    burst: tuple[HttpAnswer, ...] = field(default=())
    audits: Audits = field(default=Audits())
    restarted: RestartComparison | None = None
    credentials: Credentials | None = None
    state: Directory | None = None
    other_sessions: str = ""
    """The usual directory of the sessions, if it has accounts but is not the configured one; else empty."""
    http: Mapping[int, str] = field(default_factory=dict)

    # --- commands for this machine

    @property
    def log(self) -> tuple[str, ...]:
        """The command that shows the daemon's log."""
        return ("journalctl -u wad -n 50",) if self.systemd else ()

    @property
    def restart(self) -> str:
        """The command that restarts the daemon, or starts it."""
        if self.systemd:
            return "systemctl restart wad"
        return "wad run" if self.daemon is None else "wadctl restart"

    @property
    def stop(self) -> tuple[str, ...]:
        """The command that stops the daemon, if it runs."""
        if self.systemd:
            return ("systemctl stop wad",)
        return () if self.daemon is None else (f"kill -INT {self.daemon['pid']}",)

    @property
    def start(self) -> str:
        """The command that starts the daemon again."""
        return "systemctl start wad" if self.systemd else "wad run"

    @property
    def answer(self) -> str:
        """The command for a daemon that does not answer: if it runs, restart its control socket, and it with that."""
        runs = self.systemd and self.unit is not None and self.unit.runs
        return "systemctl restart wad.socket" if runs else self.start
