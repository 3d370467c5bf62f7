"""The supervision of a worker process: its notices, probes, periodic checks of its session's database, and its end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from wad.core import connection
from wad.core.errors import Damaged, InvalidData, TimedOut, WadError
from wad.core.jid import Jid
from wad.core.masking import masked
from wad.engine import notices, resolver_files
from wad.engine import session_db as session
from wad.engine.contacts import AddressBook
from wad.engine.frames import WorkerFrames
from wad.engine.lost_messages import Comparison
from wad.engine.port import (
    Confinement,
    EngineOptions,
    FileDamaged,
    LibraryLoaded,
    Receipts,
    Report,
    Spooled,
)
from wad.engine.process import Process
from wad.lib.clock import SystemClock
from wad.lib.loops import Loop, Loops
from wad.lib.procfs import Usage, starved_of
from wad.lib.threads import ThreadPool
from wad.state.account_dir import AccountDir

log = logging.getLogger(__name__)

REDELIVERY_MS: Final = 14 * 86_400_000
"""WhatsApp's server sends nothing again that is older."""
_EARLY: Final = "WhatsApp receives receipts before messages are stored (receipts: early): %s"
_NAMES_EVERY: Final = 60.0  # seconds
_ATTEMPTS: Final = 6
"""Probes without an answer after which a worker is replaced, however busy the machine."""
_READERS: Final = 4
_GRACE: Final = 5.0
"""Seconds for reading the last output of an ended worker, and for the end of one that closed its connection."""


@cache
def readers() -> ThreadPool:
    """The threads that read sessions: workers write these files, and must not block the daemon's other threads."""
    return ThreadPool("session", _READERS)


class SupervisedWorker:
    """A running worker process, supervised by the daemon."""

    def __init__(
        self,
        account_dir: AccountDir,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        report: Callable[[Report], None],
        options: EngineOptions,
        comparison: Comparison | None,
        spare: socket.socket | None = None,
    ) -> None:
        self._account_dir = account_dir
        self._process = process
        self._frames = WorkerFrames(reader, writer, self._notice, spare)
        self._report = report
        self._options = options
        self._comparison = comparison
        self._comparing: asyncio.Task[None] | None = None
        self._naming: Loop | None = None
        self._loops = options.loops or Loops(SystemClock())
        self._reason = ""  # for its end; the worker's own, or the daemon's
        self._stop_requested = False
        self._damaged: FileDamaged | None = None
        self._me = ""
        self._lid = ""
        self.receipts: Receipts | None = None
        self.phone_requests_unsupported: str | None = None
        self.confinement: Confinement | None = None
        self.resolving: resolver_files.Signature | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(), name=f"worker {account_dir.id}")

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid

    @property
    def usage(self) -> Usage | None:
        """What its process uses."""
        return self._process.usage

    @property
    def is_outdated(self) -> bool:
        """Whether a system file such as the name servers' was replaced, which a confined worker may not read."""
        confined = self.confinement is not None and self.confinement.landlock > 0
        return confined and self.resolving not in (None, resolver_files.signature())

    @property
    def dropped_output(self) -> str:
        """How much of its output was dropped."""
        return self._process.output.dropped_output

    def permit(self, until: float) -> None:
        """Permit it to act until this time."""
        self._frames.permit(until)

    async def stop(self, timeout: float) -> None:
        """End it: SIGTERM, and SIGKILL when it takes longer than `timeout` seconds."""
        self._stop_requested = True
        if timeout > 0:
            self._process.terminate()
            await asyncio.wait([self.ended], timeout=timeout)
        if not self.ended.done():
            if timeout > 0:
                log.warning(
                    "the worker did not stop within %g s: killed",
                    timeout,
                    extra={"account": self._account_dir.id},
                )
            self._process.kill()
        await asyncio.shield(self.ended)

    async def _call(self, method: str, *params: Any, timeout: float) -> Any:
        """The unchecked answer to a request.  Raises EngineFailure, TimedOut, and the worker's errors."""
        return await self._frames.call(method, *params, timeout=timeout)

    # --- its life ---------------------------------------------------------------------------

    async def _live(self) -> None:
        """Supervise it to its end.  After any error the process is dead, and `ended` is done."""
        why = "the daemon lost its connection to the worker"
        try:
            why = await self._supervise()
        except Exception as error:
            self._loops.fault("worker", error, account=self._account_dir.id)
            self._process.kill()
            await self._process.ended
        finally:
            self._frames.close()
            self._frames.fail_pending()
            self.ended.set_result(self._reason or why)

    async def _supervise(self) -> str:
        """Wait until it has ended and nothing uses its files any more; returns how it ended."""
        account = self._account_dir.id
        listening = asyncio.create_task(
            self._frames.listen(self._process.ended), name=f"listen {account}"
        )
        probing = self._loops.start("probe", self._probe, account=account)
        naming = self._loops.start("names", self._check_names, account=account)
        try:
            await self._wait_for_end(listening)
            why = self._process.reason()
        except Exception as error:
            self._loops.fault("worker", error, account=account)
            self._process.kill()
            await self._process.ended
            why = f"{error}; {self._process.reason()}"
        finally:
            probing.cancel()
            listening.cancel()
            self._frames.close()
        # Nothing may use the files once this worker has ended.
        if self._naming is not None:
            self._naming.retry_now()
        await asyncio.wait([naming])
        if self._comparing is not None:
            await asyncio.wait([self._comparing])
        await self._report_damage()
        if lines := self._process.crash_report():
            text = masked(" | ".join(lines))
            log.error("the worker crashed: %s", text, extra={"account": account})
        return why

    async def _wait_for_end(self, listening: asyncio.Task[None]) -> None:
        """Wait until it has ended and its last frames are read; kill it after a hang-up or an invalid frame."""
        ended: asyncio.Future[Any] = self._process.ended
        await asyncio.wait([listening, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done() and listening.exception() is None:
            await asyncio.wait([ended], timeout=_GRACE)  # it may be about to end
            if not ended.done():
                self._break_off("the worker closed its connection")
        # Its last frames may still be in the socket; a child of its own may hold that open forever.
        await asyncio.wait([listening], timeout=0 if self._frames.broken else _GRACE)
        if listening.done() and (error := listening.exception()) is not None:
            if not isinstance(error, InvalidData):
                raise error
            self._break_off(f"the worker sent an invalid frame: {error}")
        await asyncio.shield(ended)
        await self._process.drained(_GRACE)

    async def _report_damage(self) -> None:
        """Report a damaged file before the end.  A session is checked first: a worker's claim is not enough."""
        if self._damaged is None:
            return
        if self._damaged.name == self._account_dir.session_db.name:
            try:
                await readers().run(session.check, self._account_dir.session_db)
            except Damaged:
                pass
            except WadError as error:
                log.warning(
                    "cannot check the session: %s", error, extra={"account": self._account_dir.id}
                )
                return
            else:
                return
        self._report(self._damaged)

    def _break_off(self, why: str) -> None:
        """Kill a worker that cannot be trusted any more."""
        if not self._frames.broken:
            log.error("%s: killed", masked(why), extra={"account": self._account_dir.id})
            self._frames.broken, self._reason = True, why
        self._process.kill()

    # --- its notices ------------------------------------------------------------------------------

    async def _notice(self, notice: notices.Notice) -> None:
        match notice:
            case notices.WorkerEnding(why):
                self._reason = why
            case notices.Guarantee(receipts, why):
                self.receipts = receipts
                if receipts is Receipts.EARLY:
                    log.warning("%s", masked(_EARLY % why), extra={"account": self._account_dir.id})
            case Confinement():
                self.confinement = notice
                if notice.missing:
                    log.warning(
                        "%s", masked(notice.missing), extra={"account": self._account_dir.id}
                    )
            case notices.PhoneRequestsUnsupported(why):
                self.phone_requests_unsupported = why
                self._report(LibraryLoaded())
            case notices.LoggedIn():
                await self._logged_in()
            case notices.Synced():
                if self._comparing is None or self._comparing.done():
                    self._comparing = self._loops.once(
                        "lost messages",
                        self._check_session("lost messages", self._compare),
                        account=self._account_dir.id,
                    )
            case FileDamaged(_, why):
                self._reason, self._damaged = why, notice
            case _:
                self._report(notice)

    async def _logged_in(self) -> None:
        try:
            found = await readers().run(session.identity, self._account_dir.session_db)
            identity = notices.identity(*found)
        except WadError as error:
            # The next login reads the identity; the account is logged in all the same.
            log.warning(
                "cannot read the identity: %s", error, extra={"account": self._account_dir.id}
            )
        else:
            self._me = str(Jid.parse(identity.jid).bare()) if identity.jid else ""
            self._lid = str(Jid.parse(identity.lid).bare()) if identity.lid else ""
            self._report(identity)
        self._report(connection.Connected())

    # --- its session's database -------------------------------------------------------------------

    def _compare(self) -> int | None:
        """Everything that waited for this device was handed over and stored: find lost messages, and tidy up."""
        if self._comparison is None:
            return None
        before = SystemClock().wall_ms() - REDELIVERY_MS
        newest = self._comparison.run()
        session.prune_plaintexts(self._account_dir.session_db, before)
        return newest

    async def _check_session(self, what: str, check: Callable[[], int | None]) -> None:
        """Run a check of the session's database; it returns the newest row that it appended to the spool."""
        try:
            newest = await readers().run(check)
        except WadError as error:  # the next check repeats it
            log.warning(
                "cannot check for %s: %s", what, error, extra={"account": self._account_dir.id}
            )
        except Exception as error:  # the account goes on without it
            self._loops.fault(f"check for {what}", error, account=self._account_dir.id)
        else:
            if newest is not None:
                self._report(Spooled(newest))

    async def _check_names(self, loop: Loop) -> None:
        self._naming = loop
        book = AddressBook(self._account_dir, SystemClock())
        while not self._process.ended.done():
            await asyncio.wait([self._process.ended], timeout=_NAMES_EVERY)
            await self._check_session("contact names", book.check)
            loop.progress()

    # --- probes -----------------------------------------------------------------------------------

    async def _probe(self, loop: Loop) -> None:
        """Kill a worker whose library hangs: nothing else ends a stalled dial.

        See docs/internals/library.md#connecting-and-stopping.
        """
        while True:
            await asyncio.sleep(self._options.probe_every)
            try:
                await self._call_patiently("probe", self._options.probe_timeout)
            except TimedOut:
                self._reason = f"the library did not answer for {self._options.probe_timeout:g} s"
                self._process.kill()
                return
            except WadError as error:
                await loop.failed(error, pause=0)
            else:
                loop.progress()

    async def _call_patiently(self, method: str, timeout: float) -> None:
        """Raises TimedOut if there is no answer although the worker did not wait for a processor.

        A new worker would load the machine more than waiting does: then all workers would be replaced again and again.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            starved = self._starved()
            try:
                await self._call(method, timeout=timeout)
            except TimedOut:
                waited = self._starved() - starved
                if waited < timeout / 2 or attempt == _ATTEMPTS:
                    raise
                log.info(
                    "no answer for %g s, of which the worker waited %.0f s for a processor", timeout, waited,
                    extra={"account": self._account_dir.id},
                )  # fmt: skip
            else:
                return

    def _starved(self) -> float:
        """Seconds; a compromised worker can hide its own files, but its control group is the daemon's."""
        groups, pid = self._options.groups, self._process.pid
        return max(starved_of(pid), 0.0 if groups is None else groups.starved(self._account_dir.id))
