"""The daemon's live objects that a handler can use.  Types only, so that declaring operations imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wad.api.http_process.calls import HttpProcesses
    from wad.config import LoadedConfig
    from wad.core.problem import Problem, ProblemTimes
    from wad.flow.accounts.accounts import Accounts
    from wad.flow.accounts.importing import Imports
    from wad.flow.accounts.moving import Moving
    from wad.flow.event_bus import Bus
    from wad.flow.inbound.backfill import Backfills
    from wad.flow.leadership.leader import Leader
    from wad.flow.outbound.queue import Outbound
    from wad.flow.quarantine import Quarantine
    from wad.flow.self_inspection import Inspection
    from wad.lib.clock import Clock
    from wad.lib.loops import Loops
    from wad.state.outgoing_files import OutgoingFiles
    from wad.store import Store
    from wad.systemd.cgroups import WorkerLimits


class Context(Protocol):
    """The live objects of the daemon; views are read from them at the time of the request."""

    internal_errors: int
    """The number of requests since the start that failed with an internal error; `dispatch` counts them."""

    @property
    def clock(self) -> Clock:
        """The source of times."""
        ...

    @property
    def sessions_writable(self) -> bool | None:
        """Whether the accounts' directory could be written at the last check; None before the first one."""
        ...

    @property
    def loaded(self) -> LoadedConfig:
        """The configuration with the origin of each value."""
        ...

    @property
    def store(self) -> Store:
        """The store of messages, threads and the outbox."""
        ...

    @property
    def accounts(self) -> Accounts:
        """The accounts of this machine."""
        ...

    @property
    def outbound(self) -> Outbound:
        """The send queue."""
        ...

    @property
    def backfills(self) -> Backfills:
        """The running backfills."""
        ...

    @property
    def media(self) -> OutgoingFiles:
        """The files to send."""
        ...

    @property
    def moving(self) -> Moving:
        """The export and import of sessions between machines."""
        ...

    @property
    def imports(self) -> Imports:
        """The import of sessions from another backend."""
        ...

    @property
    def leader(self) -> Leader:
        """The leader, which holds or watches the lease."""
        ...

    @property
    def bus(self) -> Bus:
        """The bus of events."""
        ...

    @property
    def loops(self) -> Loops:
        """The long-lived loops and their failures."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """The items in quarantine."""
        ...

    @property
    def boot_id(self) -> str:
        """The id of this process: systemd's invocation id when systemd started it, else a random one."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the start is complete and READY=1 was sent to systemd."""
        ...

    @property
    def started_ms(self) -> int:
        """When this process started, ms since 1970."""
        ...

    @property
    def uptime(self) -> float:
        """Seconds since the start, on the monotonic clock."""
        ...

    @property
    def limits(self) -> WorkerLimits:
        """The resource limits of each worker."""
        ...

    @property
    def warnings(self) -> list[str]:
        """Warnings from the start, e.g. about the configuration."""
        ...

    @property
    def findings(self) -> Sequence[Problem]:
        """The problems that the last self-inspection of the process and its machine found."""
        ...

    @property
    def inspection(self) -> Inspection:
        """The measurements of this process."""
        ...

    @property
    def http_processes(self) -> HttpProcesses:
        """The connected HTTP processes."""
        ...

    @property
    def problem_times(self) -> ProblemTimes:
        """The time since when each problem exists."""
        ...

    def restart(self) -> None:
        """Begin a graceful restart of the whole daemon; returns at once."""
        ...
