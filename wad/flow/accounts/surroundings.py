"""The options and the common dependencies of all accounts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from wad.core.connection import RetryDelays
from wad.engine import Engine
from wad.flow.accounts.start_queue import StartQueue
from wad.flow.event_bus import Bus
from wad.lib.clock import Clock
from wad.lib.loops import Loops
from wad.lib.threads import ThreadPool, cores
from wad.store import Store
from wad.store.session_registry import LocalSessionRegistry, SessionRegistry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """Times in seconds, sizes in rows."""

    retry_delays: RetryDelays
    pairing_window: float = 600.0
    stop_timeout: float = 6.0
    batch: int = 500
    retention_days: float = 14.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The dependencies that all accounts share."""

    engine: Engine
    store: Store
    bus: Bus
    clock: Clock
    loops: Loops
    options: AccountOptions
    permit: Callable[[], float]
    """Seconds for which a worker may act from now; 0 when the lease is not held."""
    instance: str
    refusal: Callable[[], str] = lambda: ""
    """Why no worker may run on this machine now (the disk is nearly full); empty if workers may run."""
    locations: SessionRegistry = field(default_factory=LocalSessionRegistry)
    """The registry of session locations."""
    start_queue: StartQueue = field(default_factory=lambda: StartQueue(cores()))
    """The queue of accounts whose worker waits to start."""
    threads: ThreadPool = field(default_factory=lambda: ThreadPool("account", cores()))
    """The threads that read small files of accounts: workers write these files, and one must not block the others."""
