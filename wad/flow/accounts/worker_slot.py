"""The slot of an account for its worker: an account has one worker at most."""

from __future__ import annotations

import logging

from wad.engine.port import Worker

log = logging.getLogger(__name__)


class WorkerSlot:
    """The worker of one account, if one runs or is being started, and what it has reported about itself."""

    def __init__(self, account: str) -> None:
        self._account = account
        self.worker: Worker | None = None
        self.is_starting = False
        self.started_ms = 0
        """When the latest worker was started; 0 before the first."""
        self.restarts = 0
        self.session = ""
        """The fingerprint of the worker's session; empty until it is logged in."""
        self.storage_blocked = ""
        """Why the worker cannot store received events; empty if it can."""

    @property
    def is_empty(self) -> bool:
        """Whether no worker runs, and none is being started."""
        return self.worker is None and not self.is_starting

    def fill(self, worker: Worker, now_ms: int) -> None:
        """Put a started worker into the slot."""
        if self.started_ms:
            self.restarts += 1
        self.worker, self.session, self.started_ms = worker, "", now_ms

    def clear(self) -> None:
        """Remove the worker, which has ended."""
        self.worker = None
        self.storage_blocked = ""

    def block_storage(self, why: str) -> None:
        """Note why the worker cannot store received events; empty: it can again."""
        if why and why != self.storage_blocked:
            log.error("%s", why, extra={"account": self._account})
        self.storage_blocked = why
