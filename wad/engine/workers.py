"""The daemon's half of the real engine: starts, watches and ends worker processes.  It never imports the library."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wad.core import connection, send_result, wire
from wad.core.errors import (
    Damaged,
    EngineFailure,
    InvalidData,
    NotFound,
    NotSupported,
    StateUnwritable,
    TimedOut,
    Unavailable,
    WadError,
)
from wad.core.history import KnownMessage
from wad.core.jid import Jid
from wad.core.masking import masked
from wad.core.outbox import NotSent, Refused, Sent, Unknown
from wad.core.outgoing import Attachment, GroupRole, Outgoing, encode
from wad.core.rate import Rate
from wad.core.send_result import SendResult
from wad.engine import notices, resolver_files
from wad.engine import session_db as session
from wad.engine.compose import MEDIA_TYPE, Envelope, Upload
from wad.engine.contacts import AddressBook
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
from wad.engine.process import Child, Process, cannot_start, lower_priority, spawn
from wad.engine.retranslation import retranslated
from wad.lib import open_files
from wad.lib.clock import SystemClock
from wad.lib.loops import Loop, Loops
from wad.lib.procfs import Usage, starved_of
from wad.lib.threads import ThreadPool, cores
from wad.state.account_dir import AccountDir

if TYPE_CHECKING:
    from wad.engine.baileys.translation import Carried

log = logging.getLogger(__name__)

_INHERITED: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV", "GODEBUG", "GOMAXPROCS"),
        *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"),
        *("NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    }
)
"""A worker sees no more of the environment than this: the daemon's secrets are not its business."""

_SEND_TIMEOUT: Final = 240.0
"""Seconds: more than three of the library's own timeouts of 75 s (docs/internals/library.md#calls-and-panics)."""
_EARLY: Final = "WhatsApp is told that a message arrived before it is stored (receipts: early): %s"
_DAYS_14: Final = 14 * 86_400_000  # ms; WhatsApp's server sends nothing again that is older
_HANDLES: Final = (
    7  # two of the socket, the pipe, the process, what it uses, and the other end for a moment
)
_ENDS: Final = frozenset({0, 3, 4, 5, 6})
"""Codes with which a worker ends by itself: told to, for a reason that it says, unpermitted, alone, a damaged file."""
_UPLOAD_TIMEOUT: Final = 600.0  # 64 MiB at a megabit a second
_CALL_TIMEOUT: Final = 90.0
_NAMES_EVERY: Final = 60.0
_NOTICES: Final = (200, 10.0)
"""How many a worker may send at once, and a second: beyond that it has gone wild."""
_FRAMES: Final = (5000, 200.0)
"""The same of all frames.  `spooled` comes 50 times a second at most, answers as often as we ask."""
_ERRORS: Final = frozenset(
    {EngineFailure, NotFound, Damaged, Unavailable, StateUnwritable, NotSupported}
)
"""Those of a worker; any other of its own is an EngineFailure."""
_TRIES: Final = (
    6  # probes without an answer after which a worker is replaced, however busy the machine
)
_AT_ONCE: Final = 50  # frames that are handled before others have their turn
_READERS: Final = 4
_FAREWELL: Final = 5.0  # seconds in which what an ended worker said last is read; in which one that hung up may end


@cache
def _launchers() -> ThreadPool:
    """Where workers are started: one for each that may start at once (wad/flow/accounts/start_queue.py)."""
    return ThreadPool("launch", cores())


@cache
def _readers() -> ThreadPool:
    """Where sessions are read: their workers write these, and must not hold up what else the daemon does in threads."""
    return ThreadPool("session", _READERS)


class NeonizeEngine:
    """WhatsApp through neonize, one process an account."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._workers: set[NeonizeWorker] = set()
        self._threads = _launchers()

    @property
    def receipts(self) -> Receipts | None:
        """The weakest guarantee that a running worker gives; None while none has said so."""
        said = {worker.receipts for worker in self._workers} - {None}
        if not said:
            return None
        return Receipts.EARLY if Receipts.EARLY in said else Receipts.AFTER_STORE

    async def launch(
        self, home: AccountDir, report: Callable[[Report], None], permit: float
    ) -> NeonizeWorker:
        """Start a worker; what it has to tell goes to `report`.  Raises EngineFailure.

        Whatever the kernel refuses (handles, memory, processes) is this one account's reason, and nothing is left over.
        """
        until = SystemClock().monotonic() + permit
        launching = asyncio.ensure_future(self._threads.run(self._spawn, home, until))
        try:
            started = await asyncio.shield(launching)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: whoever starts after all has to be ended by somebody.
            with suppress(EngineFailure):
                (await launching).give_up()
            raise
        return await self._watch(home, started, report)

    async def _watch(
        self, home: AccountDir, started: _Started, report: Callable[[Report], None]
    ) -> NeonizeWorker:
        def on_line(line: str) -> None:
            log.debug("worker: %s", masked(line), extra={"account": home.id})

        try:
            reader, writer = await asyncio.open_connection(sock=started.ours)
        except BaseException as error:
            started.give_up()
            if isinstance(error, OSError):
                raise cannot_start(error) from error
            raise
        try:
            process = Process(started.child, on_line, home.id)
        except EngineFailure:
            writer.close()
            started.spare.close()
            raise

        def heard(what: Report) -> None:
            if isinstance(
                what, LibraryLoaded
            ):  # what it does from now on gives way; few load at a time
                self._threads.post(self._give_way, home.id, process.pid)
            report(what)

        worker = NeonizeWorker(
            home, process, reader, writer, heard, self._options, started.comparison, started.spare
        )
        worker.resolving = started.resolving
        self._workers.add(worker)
        worker.ended.add_done_callback(lambda _ended: self._workers.discard(worker))
        if (groups := self._options.groups) is not None:
            worker.ended.add_done_callback(lambda _ended: self._threads.post(groups.drop, home.id))
        return worker

    def _spawn(self, home: AccountDir, until: float) -> _Started:
        """Look at the session's database, then start the process; on a thread.  Raises EngineFailure."""
        comparison = self._prepare(home)
        seen = resolver_files.signature()
        try:
            open_files.check_left(_HANDLES)
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise cannot_start(error) from error
        try:
            spare = ours.dup()
        except OSError as error:
            ours.close()
            theirs.close()
            raise cannot_start(error) from error
        argv = [
            sys.executable, "-m", "wad.worker.main", "--account", home.id, "--home", str(home.path),
            "--fd", str(theirs.fileno()), "--parent", str(os.getpid()), "--until", str(until),
            "--media", str(self._options.media), "--device", self._options.device_name,
        ]  # fmt: skip
        try:
            # What SQLite sorts beside its database has to lie where the worker may write.
            environ = self._environ() | {"TMPDIR": str(home.path)}
            child = spawn(argv, environ, theirs, lambda pid: self._settle(home.id, pid))
        except BaseException:
            ours.close()
            spare.close()
            raise
        return _Started(child, ours, spare, comparison, seen)

    def _settle(self, account: str, pid: int) -> None:
        """Put a new process where it has its limits."""
        if (groups := self._options.groups) is not None:
            groups.take(account, pid)

    def _give_way(self, account: str, pid: int | None) -> None:
        """Let a process run after the daemon, where no control group weighs it."""
        groups = self._options.groups
        if pid is None or (groups is not None and groups.weighs):
            return
        try:
            lower_priority(pid, self._options.accounts())
        except OSError as error:  # the unit's filter of system calls, or it is gone already
            log.debug("a worker is not niced: %s", error, extra={"account": account})

    def _prepare(self, home: AccountDir) -> Comparison | None:
        """What is to be done with the session's database before the library has it."""
        clock = SystemClock()
        try:
            session.prune_plaintexts(home.session_db, clock.wall_ms() - _DAYS_14)
            return Comparison(home, clock)
        except (
            WadError,
            OSError,
        ) as error:  # a damaged file is the worker's to report: it checks both
            log.warning("no look for lost messages: %s", error, extra={"account": home.id})
            return None

    def _environ(self) -> dict[str, str]:
        environ = {name: value for name, value in os.environ.items() if name in _INHERITED}
        # A small heap for each of many processes: collected when it has grown by half, few arenas.
        environ |= {"GOGC": "50", "MALLOC_ARENA_MAX": "2"}
        # Without it the library marks every private message as written by a bot
        # (docs/internals/library.md#database-and-identity).
        environ |= {"NEONIZE_BOT_TAG": "off", "PYTHONUNBUFFERED": "1"}
        if self._options.proxy:
            environ |= {"HTTPS_PROXY": self._options.proxy, "https_proxy": self._options.proxy}
        return environ

    def is_paired(self, home: AccountDir) -> bool:
        """Whether a session lies on the disk.  Raises Damaged."""
        return session.is_paired(home.session_db)

    def copy_session(self, home: AccountDir) -> bytes:
        """The session's database, with what its log holds.  Raises Damaged, Unavailable."""
        return session.copy(home.session_db)

    def put_session(self, home: AccountDir, session_db: bytes) -> None:
        """Put a database down.  Raises BadInput (there is no device in it), StateUnwritable."""
        session.check_copy(session_db)
        home.write_session(session_db)

    async def write_session(self, file: Path, session: Carried) -> None:
        """Let the library make its tables, in a process of its own, and fill them."""
        # Loaded with the first session that comes from another backend, as what translates it is.
        from wad.engine.baileys import write

        await asyncio.to_thread(write.write, file, session, self._environ())

    async def translate(self, kind: str, raw: bytes) -> bytes | None:
        """A row's bytes as an encoded event, in a process of its own."""
        return await asyncio.to_thread(retranslated, kind, raw, self._environ())

    def sent_as(self, home: AccountDir, secret: bytes, mark: str) -> str | None:
        """What the session's database knows of an attempt (only true once the worker is gone)."""
        return session.sent_as(home.session_db, secret, mark)


@dataclass(frozen=True, slots=True)
class _Started:
    """A worker process that nobody watches yet; `spare` is a second handle of `ours`."""

    child: Child
    ours: socket.socket
    spare: socket.socket
    comparison: Comparison | None
    resolving: resolver_files.Signature

    def give_up(self) -> None:
        """End it."""
        self.ours.close()
        self.spare.close()
        self.child.give_up()


class NeonizeWorker:
    """A running worker process, seen from the daemon."""

    def __init__(
        self,
        home: AccountDir,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        report: Callable[[Report], None],
        options: EngineOptions,
        comparison: Comparison | None,
        spare: socket.socket | None = None,
    ) -> None:
        self._home = home
        self._process = process
        self._reader = reader
        self._writer = writer
        # A second handle: asyncio closes its own when a write fails, and what was not read yet with it.
        self._socket = spare or writer.get_extra_info("socket").dup()
        self._report = report
        self._options = options
        self._comparison = comparison
        self._comparing: asyncio.Task[None] | None = None
        self._naming: Loop | None = None
        self._loops = options.loops or Loops(SystemClock())
        self._asked = 0  # requests so far: the id of the last one
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_words = ""
        self._asked_to_end = False
        self._damaged: FileDamaged | None = None
        self._broken = False  # it broke the protocol, and is being killed
        self._me = ""
        now = SystemClock().monotonic()
        self._notices, self._frames = Rate(*_NOTICES, now), Rate(*_FRAMES, now)
        self.receipts: Receipts | None = None
        self.phone_requests_unsupported: str | None = None
        self.confinement: Confinement | None = None
        self.resolving: resolver_files.Signature | None = None
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(), name=f"worker {home.id}")

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
        """Whether name servers, say, are read from a new file, to which a confined worker has no right."""
        confined = self.confinement is not None and self.confinement.landlock > 0
        return confined and self.resolving not in (None, resolver_files.signature())

    @property
    def dropped_output(self) -> str:
        """How much of its output was dropped."""
        return self._process.output.dropped_output

    # --- its life ---------------------------------------------------------------------------

    async def _live(self) -> None:
        """Whatever goes wrong here: the process is dead, and `ended` says so."""
        why = "the daemon lost touch with the worker"
        try:
            why = await self._attend()
        except Exception as error:
            self._loops.fault("worker", error, account=self._home.id)
            self._process.kill()
            await self._process.ended
        finally:
            self._writer.close()
            self._socket.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(EngineFailure("the worker is gone"))
            self.ended.set_result(self._last_words or why)

    async def _attend(self) -> str:
        """Until it has ended and nobody uses its files any more; how it ended."""
        account = self._home.id
        listening = asyncio.create_task(self._listen(), name=f"listen {account}")
        probing = self._loops.start("probe", self._probe, account=account)
        naming = self._loops.start("names", self._keep_names, account=account)
        try:
            await self._outlive(listening)
            why = self._process.reason()
        except Exception as error:
            self._loops.fault("worker", error, account=account)
            self._process.kill()
            await self._process.ended
            why = f"{error}; {self._process.reason()}"
        finally:
            probing.cancel()
            listening.cancel()
            self._writer.close()
            self._socket.close()
        # The files are nobody's once this worker has ended.
        if self._naming is not None:
            self._naming.hurry()
        await asyncio.wait([naming])
        if self._comparing is not None:
            await asyncio.wait([self._comparing])
        await self._tell_of_damage()
        if words := self._process.crash_report():
            text = masked(" | ".join(words))
            log.error("worker's last words: %s", text, extra={"account": account})
        return why

    async def _outlive(self, listening: asyncio.Task[None]) -> None:
        """Until it has ended and its last words are read; one that hangs up or breaks the protocol is ended."""
        ended: asyncio.Future[Any] = self._process.ended
        await asyncio.wait([listening, ended], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done() and listening.exception() is None:
            await asyncio.wait([ended], timeout=_FAREWELL)  # it may be on its way out
            if not ended.done():
                self._break_off("the worker hung up")
        # Its last words may still be in the pipes; a child of its own may hold them open for ever.
        await asyncio.wait([listening], timeout=0 if self._broken else _FAREWELL)
        if listening.done() and (error := listening.exception()) is not None:
            if not isinstance(error, InvalidData):
                raise error
            self._break_off(f"the worker sent an invalid frame: {error}")
        await asyncio.shield(ended)
        await self._process.drained(_FAREWELL)

    async def _tell_of_damage(self) -> None:
        """Before the end is known.  No session is put away on a worker's word alone."""
        if self._damaged is None:
            return
        if self._damaged.name == self._home.session_db.name:
            try:
                await _readers().run(session.check, self._home.session_db)
            except Damaged:
                pass
            except WadError as error:
                log.warning("cannot check it: %s", error, extra={"account": self._home.id})
                return
            else:
                return
        self._report(self._damaged)

    def _break_off(self, why: str) -> None:
        """Kill a worker that cannot be trusted any more."""
        if not self._broken:
            log.error("%s: killed", masked(why), extra={"account": self._home.id})
            self._broken, self._last_words = True, why
        self._process.kill()

    async def _listen(self) -> None:
        """Until it hangs up.  Raises InvalidData."""
        decoder = wire.Decoder()
        try:
            while data := await self._reader.read(1 << 16):
                await self._take_all(decoder, data)
        except ConnectionError:
            # It ended while something was written to it.  That it was replaced or logged out may be what it said last.
            await asyncio.shield(self._process.ended)
            await self._take_all(decoder, self._unread())

    async def _take_all(self, decoder: wire.Decoder, data: bytes) -> None:
        for number, frame in enumerate(decoder.feed(data), 1):
            if self._broken:
                return
            await self._take(frame)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _unread(self) -> bytes:
        """What lies in the socket of a worker that has ended."""
        found = b""
        with suppress(ConnectionError):
            while data := self._socket.recv(1 << 16):
                found += data
        return found

    async def _take(self, frame: wire.Frame) -> None:
        if not self._frames.take(SystemClock().monotonic()):
            raise InvalidData(f"it is one of more than {_FRAMES[0]} at once")
        match frame:
            case wire.Response(ident, error, result):
                self._answered(ident, error, result)
            case wire.Notice(method, params):
                await self._notice(notices.notice(method, params))
            case _:
                raise InvalidData(f"a worker sends no {type(frame).__name__.lower()}")

    def _answered(self, ident: int, error: WadError | None, result: object) -> None:
        if not 0 < ident <= self._asked:
            raise InvalidData(f"it answers request {ident}, which nobody asked")
        waiting = self._waiting.pop(ident, None)
        if waiting is None or waiting.done():
            return  # it was given up meanwhile
        if error is None:
            waiting.set_result(result)
        else:  # of the lease, of time and of who may do what a worker knows nothing
            known = type(error) in _ERRORS
            waiting.set_exception(error if known else EngineFailure(str(error)))

    async def _notice(self, notice: notices.Notice) -> None:
        if not isinstance(notice, Spooled) and not self._notices.take(SystemClock().monotonic()):
            raise InvalidData(f"it is one of more than {_NOTICES[0]} notices at once")
        match notice:
            case notices.WorkerEnding(why):
                self._last_words = why
            case notices.Guarantee(receipts, why):
                self.receipts = receipts
                if receipts is Receipts.EARLY:
                    log.warning("%s", masked(_EARLY % why), extra={"account": self._home.id})
            case Confinement():
                self.confinement = notice
                if notice.missing:
                    log.warning("%s", masked(notice.missing), extra={"account": self._home.id})
            case notices.PhoneRequestsUnsupported(why):
                self.phone_requests_unsupported = why
                self._report(LibraryLoaded())
            case notices.LoggedIn():
                await self._logged_in()
            case notices.Synced():
                if self._comparing is None or self._comparing.done():
                    self._comparing = self._loops.once(
                        "look for lost messages",
                        self._look("lost messages", self._compare),
                        account=self._home.id,
                    )
            case FileDamaged(_, why):
                self._last_words, self._damaged = why, notice
            case _:
                self._report(notice)

    async def _logged_in(self) -> None:
        try:
            found = await _readers().run(session.identity, self._home.session_db)
            identity = notices.identity(*found)
        except WadError as error:
            # Who it is will be read with the next login; that it is logged in is true all the same.
            log.warning("cannot read who it is: %s", error, extra={"account": self._home.id})
        else:
            self._me = str(Jid.parse(identity.jid).bare()) if identity.jid else ""
            self._report(identity)
        self._report(connection.Connected())

    def _compare(self) -> int | None:
        """All that waited for this device was handed over and stored: look for what never came, and tidy up."""
        if self._comparison is None:
            return None
        before = SystemClock().wall_ms() - _DAYS_14
        newest = self._comparison.run()
        session.prune_plaintexts(self._home.session_db, before)
        return newest

    async def _look(self, for_what: str, look: Callable[[], int | None]) -> None:
        """Look into the session's database; what is found was appended to the spool, up to the row that is returned."""
        try:
            newest = await _readers().run(look)
        except WadError as error:  # it is made again the next time
            log.warning("no look for %s: %s", for_what, error, extra={"account": self._home.id})
        except Exception as error:  # the account goes on without it
            self._loops.fault(f"look for {for_what}", error, account=self._home.id)
        else:
            if newest is not None:
                self._report(Spooled(newest))

    async def _keep_names(self, loop: Loop) -> None:
        self._naming = loop
        book = AddressBook(self._home, SystemClock())
        while not self._process.ended.done():
            await asyncio.wait([self._process.ended], timeout=_NAMES_EVERY)
            await self._look("the contacts' names", book.check)
            loop.progress()

    async def _probe(self, loop: Loop) -> None:
        """Kill a worker whose library hangs: nothing else ends a stalled dial.

        See docs/internals/library.md#connecting-and-stopping.
        """
        while True:
            await asyncio.sleep(self._options.probe_every)
            try:
                await self._call_patiently("probe", self._options.probe_timeout)
            except TimedOut:
                self._last_words = (
                    f"the library did not answer for {self._options.probe_timeout:g} s"
                )
                self._process.kill()
                return
            except WadError as error:
                await loop.failed(error, pause=0)
            else:
                loop.progress()

    async def _call_patiently(self, method: str, timeout: float) -> None:
        """Raises TimedOut where it does not answer, and it is not the machine that lets it wait for a processor.

        To start another one would take the machine more than to wait: then all would start again, for ever.
        """
        for tries in range(1, _TRIES + 1):
            starved = self._starved()
            try:
                await self._call(method, timeout=timeout)
            except TimedOut:
                waited = self._starved() - starved
                if waited < timeout / 2 or tries == _TRIES:
                    raise
                log.info(
                    "no answer for %g s, in which it waited %.0f s for a processor", timeout, waited,
                    extra={"account": self._home.id},
                )  # fmt: skip
            else:
                return

    def _starved(self) -> float:
        """Seconds; a worker that was taken over shows its own files to nobody, but its group is ours."""
        groups, pid = self._options.groups, self._process.pid
        return max(starved_of(pid), 0.0 if groups is None else groups.starved(self._home.id))

    # --- what it is asked -----------------------------------------------------------------------

    def permit(self, until: float) -> None:
        """It may act until then."""
        self._writer.write(wire.encode(wire.Notice("until", [until])))

    async def _call(self, method: str, *params: Any, timeout: float) -> Any:
        """Its answer, which is checked by whoever asked.  Raises EngineFailure, TimedOut, and what it answers."""
        if self.ended.done() or self._writer.is_closing():
            raise EngineFailure("the worker is gone")
        self._asked += 1
        ident = self._asked
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[ident] = future
        try:
            self._writer.write(wire.encode(wire.Request(ident, method, list(params))))
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise TimedOut(f"the worker did not answer {method} in {timeout:g} s") from None
        finally:
            self._waiting.pop(ident, None)

    async def send(self, to: Jid, content: Outgoing, secret: bytes, asked_ms: int) -> SendResult:
        """Send a content; a worker that dies or hangs over it leaves its traces in the session's database."""
        if self._process.ended.done():
            return NotSent("the worker is gone", innocent=True)  # it did not die over this
        upload = None
        if isinstance(content, Attachment):
            found = await self._upload(content)
            if not isinstance(found, Upload):
                return found
            upload = found
        envelope = Envelope(secret, self._me, asked_ms, upload).to_wire()
        try:
            answer = await self._call(
                "send", str(to), encode(content), envelope, timeout=_SEND_TIMEOUT
            )
        except WadError as error:
            return await self._judge(secret, error)
        try:
            outcome = notices.sent(answer)
        except InvalidData as error:
            return await self._judge(secret, self._refuse_answer(error))
        return outcome if isinstance(outcome, Sent) else await self._judge(secret, outcome)

    def _refuse_answer(self, error: InvalidData) -> EngineFailure:
        """An answer that is not what was asked for: the worker goes."""
        why = f"the worker sent an invalid frame: {error}"
        self._break_off(why)
        return EngineFailure(why)

    async def _judge(self, secret: bytes, why: WadError | str) -> SendResult:
        """By its traces: the library refused it, or the worker died of it, says that it failed, or says nothing."""
        if self._broken or self._process.ended.done():
            await asyncio.shield(self.ended)
        try:
            found = await _readers().run(session.sent_as, self._home.session_db, secret)
        except NotFound as gone:
            # Only the library's own words may still prove that nothing was written.
            return (
                send_result.classify(why, "")
                if isinstance(why, str)
                else Unknown("", f"{why}; {gone}")
            )
        except WadError as unreadable:
            return Unknown("", f"{why}; {unreadable}")
        if isinstance(why, str):
            return send_result.classify(why, found)
        if isinstance(why, TimedOut):  # it may still leave: no trace proves nothing
            return Unknown(found or "", str(why))
        if found is not None:
            return Unknown(found, str(why))
        return self._not_sent(why)

    async def _upload(self, content: Attachment) -> Upload | NotSent | Refused:
        """Where the file lies at WhatsApp; or why nothing was sent."""
        media_type = MEDIA_TYPE[content.kind]
        try:
            answer = await self._call(
                "upload", content.sha256, content.size, media_type, timeout=_UPLOAD_TIMEOUT
            )
            return Upload.from_wire(answer)
        except InvalidData as error:
            return self._not_sent(self._refuse_answer(error))
        except (NotFound, Damaged) as error:
            return Refused(error.code, str(error))
        except TimedOut as error:
            # Nothing else ends an upload that hangs (docs/internals/library.md#calls-and-panics).
            self._last_words = str(error)
            self._process.kill()
            await asyncio.shield(self.ended)
            return NotSent(str(error), died=True)
        except WadError as error:
            return self._not_sent(error)

    def _not_sent(self, why: WadError) -> NotSent:
        died = self._died()
        surroundings = self._process.ended.done() or isinstance(why, Unavailable)
        innocent = surroundings or send_result.is_innocent(str(why))
        return NotSent(self.ended.result() if died else str(why), innocent, died)

    def _died(self) -> bool:
        """Whether it crashed: nobody ended it, and it did not end by itself, saying why."""
        if not self.ended.done() or self._asked_to_end:
            return False
        said_why = self._last_words and not self._broken
        return not said_why and self._process.ended.result() not in _ENDS

    async def on_whatsapp(self, phones: Collection[str]) -> dict[str, bool]:
        """Which of these numbers have WhatsApp."""
        answer = await self._call("on_whatsapp", list(phones), timeout=_CALL_TIMEOUT)
        try:
            found: dict[str, bool] = notices.convert(
                answer, dict[str, bool], "the answer to 'on_whatsapp'"
            )
        except InvalidData as error:
            raise self._refuse_answer(error) from error
        return {phone: found[phone] for phone in phones if phone in found}

    async def group_role(self, group: Jid) -> GroupRole:
        """What we are in a group."""
        owner = await _readers().run(session.identity, self._home.session_db)
        me = [Jid.parse(address).user for address in (owner.jid, owner.lid) if address]
        answer = await self._call("group_role", str(group), me, timeout=_CALL_TIMEOUT)
        try:
            found: GroupRole = notices.convert(answer, GroupRole, "the answer to 'group_role'")
        except InvalidData as error:
            raise self._refuse_answer(error) from error
        return found

    async def ask_history(self, oldest: KnownMessage, count: int) -> None:
        """Ask the phone for what came before."""
        await self._call("history", self._me, oldest.to_wire(), count, timeout=_CALL_TIMEOUT)

    async def ask_messages(self, wanted: Sequence[KnownMessage]) -> None:
        """Ask the phone for these messages."""
        shapes = [one.to_wire() for one in wanted]
        await self._call("messages", self._me, shapes, timeout=_CALL_TIMEOUT)

    async def log_out(self) -> None:
        """Make WhatsApp forget this device."""
        await self._call("log_out", timeout=_CALL_TIMEOUT)

    async def stop(self, timeout: float) -> None:
        """End it: SIGTERM, and SIGKILL when it takes longer than `timeout` seconds."""
        self._asked_to_end = True
        if timeout > 0:
            self._process.terminate()
            await asyncio.wait([self.ended], timeout=timeout)
        if not self.ended.done():
            if timeout > 0:
                log.warning(
                    "not down after %g s: killed", timeout, extra={"account": self._home.id}
                )
            self._process.kill()
        await asyncio.shield(self.ended)
