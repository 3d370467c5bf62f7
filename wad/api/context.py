"""What a handler can reach: the live daemon.  Types only, so that declaring operations imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wad.api.http_process.calls import HttpProcesses
    from wad.config import LoadedConfig
    from wad.core.problem import Noticed, Problem
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
    """The live objects of the daemon; every view is read from them at the moment of asking."""

    internal_errors: int
    """Requests that failed by a fault of ours since the start; `dispatch` counts them."""

    @property
    def clock(self) -> Clock:
        """Where times come from."""
        ...

    @property
    def sessions_writable(self) -> bool | None:
        """Whether the accounts' homes could be written when last tried; None before the first try."""
        ...

    @property
    def loaded(self) -> LoadedConfig:
        """The configuration and where each value came from."""
        ...

    @property
    def store(self) -> Store:
        """Messages, threads, outbox."""
        ...

    @property
    def accounts(self) -> Accounts:
        """The accounts of this machine."""
        ...

    @property
    def outbound(self) -> Outbound:
        """What is to be sent."""
        ...

    @property
    def backfills(self) -> Backfills:
        """What phones are asked for."""
        ...

    @property
    def media(self) -> OutgoingFiles:
        """Files to send."""
        ...

    @property
    def moving(self) -> Moving:
        """Sessions that go to another machine, or come from one."""
        ...

    @property
    def imports(self) -> Imports:
        """Sessions of another backend on their way in."""
        ...

    @property
    def leader(self) -> Leader:
        """The lease."""
        ...

    @property
    def bus(self) -> Bus:
        """What happens, as it happens."""
        ...

    @property
    def loops(self) -> Loops:
        """The long-lived loops, and which of them fail now."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """What was set aside because it could not be handled."""
        ...

    @property
    def boot_id(self) -> str:
        """The name of this start: systemd's invocation id where systemd started us, else a random one."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the start is complete, as systemd was told."""
        ...

    @property
    def started_ms(self) -> int:
        """When this process started, ms since 1970."""
        ...

    @property
    def uptime(self) -> float:
        """Seconds since then, on a clock that is never set."""
        ...

    @property
    def limits(self) -> WorkerLimits:
        """What the worker of each account is held to."""
        ...

    @property
    def warnings(self) -> list[str]:
        """What an operator should know from the start on, e.g. of the configuration."""
        ...

    @property
    def findings(self) -> Sequence[Problem]:
        """What looking at this process and its machine has found, the last time."""
        ...

    @property
    def inspection(self) -> Inspection:
        """What is measured of this process."""
        ...

    @property
    def http_processes(self) -> HttpProcesses:
        """The HTTP processes that are connected."""
        ...

    @property
    def noticed(self) -> Noticed:
        """Since when each problem has been there."""
        ...

    def restart(self) -> None:
        """Begin a graceful restart of the whole daemon; returns at once."""
        ...
