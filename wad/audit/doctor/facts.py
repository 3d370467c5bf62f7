"""What the doctor knows of an installation.  None and empty: not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wad.audit.reports import MessagesReport, ThreadsReport
from wad.core.errors import WadError

SYSTEMD: Final = 1
"""The pid of whoever listens before the daemon is started by a connection (socket activation)."""
Document = Mapping[str, Any]
"""What the daemon answered, as it came over a door: its fields differ from version to version."""


@dataclass(frozen=True, slots=True)
class SettingValue:
    """A value and where it came from."""

    value: str | int | float | bool
    source: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """`settings` are the running daemon's own (`live`), else those that it would start with.

    `problems` and `warnings` are about what the next start would read.
    """

    settings: Mapping[str, SettingValue]
    live: bool
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def text(self, key: str) -> str:
        """A setting as text; empty where it is not known."""
        found = self.settings.get(key)
        return "" if found is None else str(found.value)

    def number(self, key: str) -> int:
        """A whole number; 0 where it is not known."""
        found = self.settings.get(key)
        return int(found.value) if found is not None else 0


@dataclass(frozen=True, slots=True)
class Credentials:
    """For Firestore: where they come from, whose project they are for, and what is wrong with them.

    `exposed` is their file, where everybody may read it.
    """

    source: str
    project: str = ""
    exposed: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """What systemd says of wad.service (`systemctl show`).  `failure`: why it does not start, as it said itself."""

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
        """Whether its process is there."""
        return self.active == "active" and self.pid != 0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a TCP port; `pid` None where the kernel does not let us see."""

    port: int
    address: str
    pid: int | None
    command: str


@dataclass(frozen=True, slots=True)
class Mount:
    """The file system on which a path lies."""

    path: str
    at: str
    kind: str
    read_only: bool
    free_mb: int


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory and what is wrong in it: paths of another owner, paths that others may read.

    `hidden`: we may not look at it.
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
    """One account's directory: its session, and what lies in it.  `error`: why it cannot be read."""

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
    """An answer over HTTP.  `status` 0: none came, and `error` says why; `document` None: it was no JSON object."""

    status: int
    document: Document | None = None
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RestartComparison:
    """The accounts before and after a restart, as `status` tells them; `error`: it did not come back."""

    before: tuple[Document, ...]
    after: tuple[Document, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Audits:
    """The two audits, or why there are none."""

    messages: MessagesReport | None = None
    threads: ThreadsReport | None = None
    error: WadError | None = None


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    """All of it.  `daemon` is its `status`; `daemon_error` says why there is none; `user` is the one it runs as.

    `http`: the HTTP processes and their versions, which are empty where the daemon does not say.
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
    http: Mapping[int, str] = field(default_factory=dict)

    # --- the commands of this machine, where nobody but systemd knows the unit's log

    @property
    def log(self) -> tuple[str, ...]:
        """What shows the daemon's log."""
        return ("journalctl -u wad -n 50",) if self.systemd else ()

    @property
    def restart(self) -> str:
        """What restarts the daemon, or starts it."""
        if self.systemd:
            return "systemctl restart wad"
        return "wad run" if self.daemon is None else "wadctl restart"

    @property
    def stop(self) -> tuple[str, ...]:
        """What stops the daemon, if it runs."""
        if self.systemd:
            return ("systemctl stop wad",)
        return () if self.daemon is None else (f"kill -INT {self.daemon['pid']}",)

    @property
    def start(self) -> str:
        """What starts it again."""
        return "systemctl start wad" if self.systemd else "wad run"

    @property
    def answer(self) -> str:
        """What makes a daemon answer that does not: where it runs, a new control socket, and it with that."""
        runs = self.systemd and self.unit is not None and self.unit.runs
        return "systemctl restart wad.socket" if runs else self.start
