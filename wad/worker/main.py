"""One account's process: the library on one side, the daemon's socketpair on the other, the spool between.

    python -m wad.worker.main --account ID --home DIR --media DIR --fd N --parent PID --until TIME --device NAME

Law: what the library hands over is committed to the spool before the daemon is told, and before WhatsApp is told
(`receipts: after-store`, wad/worker/receipt_gate.py).  With a build of the library that is not known the second does
not hold (`receipts: early`): then what is in the library's queue when the process is killed is lost.  The process says
which of the two is in force.

Before all else it gives up what it has no need of (wad/worker/confinement/rules.py), and says what the kernel holds it
to.

It never opens the session's database while the library has it open (wad/engine/lost_messages.py says why).

It acts only while it is permitted to (a time on the machine's CLOCK_BOOTTIME that each renewal of the lease moves on),
dies with the daemon, and never restarts the library in place: whatever ends the connection for good ends the process,
and a fresh one takes its place.  It always leaves by os._exit: the library's threads cannot be joined
(docs/internals/library.md#loading).
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from wad.core import send_result, wire
from wad.core.errors import Damaged, EngineFailure, NotSupported, WadError
from wad.core.history import KnownMessage
from wad.core.jid import Jid
from wad.core.library_errors import ban, ban_seconds, is_ban, why_it_ended
from wad.core.outbox import Sent
from wad.core.outgoing import Outgoing, decode
from wad.engine import session_db
from wad.engine.compose import Envelope, Upload, compose
from wad.engine.port import Confinement
from wad.lib.clock import SystemClock
from wad.lib.dumpable import close_to_others
from wad.lib.signals import ignore_what_is_the_daemons
from wad.state import outgoing_file
from wad.state.account_dir import AccountDir, lock_account
from wad.state.spool import Spool
from wad.worker import memory, phone_requests
from wad.worker.c_interface import VERSION, Functions, shared_object
from wad.worker.confinement.rules import Wants, code_paths, confine
from wad.worker.faults import Faults
from wad.worker.inbox import KEPT, Inbox
from wad.worker.library import Library, blank, event_class, parse
from wad.worker.link import DaemonSocket, Permission
from wad.worker.patching import NotThisBuild
from wad.worker.protobuf import DecodeError
from wad.worker.receipt_gate import ReceiptGate, keep_plaintexts
from wad.worker.translate.base import exact, shown

log = logging.getLogger("wad.worker")

_PR_SET_PDEATHSIG: Final = 1
_QUIET: Final = (
    0.3  # seconds without an event after which a disconnected library has handed out all it had
)
_REST: Final = 5.0  # seconds
_MOMENT: Final = 0.2  # seconds that a thread which reads may take
_SETTLE: Final = 5.0  # seconds that what has arrived may take to be stored before a worker ends


class WorkerProcess:
    """Ties library, spool and link together."""

    def __init__(
        self,
        home: AccountDir,
        media: Path,
        account: str,
        device: str,
        link: DaemonSocket,
        spool: Spool,
    ) -> None:
        """Load the library.  Raises EngineFailure, Damaged, Unavailable, StateUnwritable."""
        self._home = home
        self._media = media
        self._link = link
        self._clock = SystemClock()
        file = shared_object()
        functions = Functions(file)
        self._changed: list[int] = []
        self._gate = self._guarantee(file)
        self._mute = self._open_the_way(file)
        self._inbox = Inbox(
            spool,
            self._clock,
            read_vote=lambda raw: self._library.read_vote(raw),
            patient=self._gate is not None,
            on_stored=link.spooled,
            on_done=_nothing if self._gate is None else self._gate.dealt_with,
            on_held=lambda why: link.notice("held", why),
            on_failed=self._cannot_store,
        )
        self._library = Library(
            functions,
            home.session_db,
            account,
            device,
            on_event=self._on_event,
            on_qr=lambda code: link.notice("qr", code),
            on_status=self._on_status,
            on_line=None if self._gate is None else self._note,
        )

    def _guarantee(self, file: Path) -> ReceiptGate | None:
        """Have receipts wait for the commit, where this can be had; say what is in force."""
        try:
            self._changed.append(keep_plaintexts(file))
        except NotThisBuild as error:
            log.warning("receipts are sent early: %s", error)
            self._link.notice("receipts", "early", str(error))
            return None
        self._link.notice("receipts", "after-store", "")
        return ReceiptGate(
            on_unsaved=lambda: self.end("the session cannot be saved: the disk refuses")
        )

    def _open_the_way(self, file: Path) -> str:
        """Have our phone be asked, where this can be had; why it cannot."""
        try:
            self._changed += phone_requests.open_the_way(file)
        except NotThisBuild as error:
            log.warning("the phone cannot be asked for anything: %s", error)
            self._link.notice("mute", str(error))
            return str(error)
        self._link.notice("mute", "")
        return ""

    def start(self) -> None:
        """Connect, on a thread of its own."""
        threading.Thread(target=self._connect, name="connect", daemon=True).start()
        threading.Thread(target=self._rest, name="rest", daemon=True).start()

    def _connect(self) -> None:
        why = "the connection ended"
        try:
            self._library.connect()
        except EngineFailure as error:
            why = why_it_ended(str(error))
            if is_ban(str(error)):
                self._link.notice("banned", 0, why)
        except (
            BaseException
        ) as error:  # whatever it was, this process is of no more use and says so
            log.exception("connect failed")
            why = f"{type(error).__name__}: {error}"
        self._inbox.settle(_SETTLE)
        self.end(why)

    def _rest(self) -> None:
        """Give memory back whenever it is quiet after something has happened."""
        seen = 0.0
        while True:
            time.sleep(_REST)
            last = self._inbox.last_event
            if last != seen and self._clock.monotonic() - last > _REST / 2:
                seen = last
                memory.release(self._changed)

    def end(self, why: str) -> None:
        """Leave at once, with a reason.  Left running, the library would go on acknowledging into a dead queue."""
        self._link.notice("ending", why)
        os._exit(3)

    def leave(self) -> None:
        """The graceful end: close the socket, let all that has arrived be stored, only then stop.

        See docs/internals/library.md#events.  A receipt that still waited cannot be sent any more; WhatsApp sends its
        message again, and it is known.
        """
        self._library.disconnect()
        closed = self._clock.monotonic()
        while (
            not self._inbox.settle(_QUIET)
            or self._clock.monotonic() - max(closed, self._inbox.last_event) < _QUIET
        ):
            time.sleep(0.01)
        self._library.stop()
        os._exit(0)

    # --- what the library tells, on its threads ------------------------------------------------

    def _note(self, logger: str, text: str) -> None:
        assert self._gate is not None
        try:
            self._gate.note(logger, text)
        except BaseException as error:  # the receipt would go out now, whatever it is about
            log.exception("the gate failed")
            self.end(f"cannot hold receipts: {type(error).__name__}")

    def _on_event(self, name: str, raw: bytes) -> None:
        try:
            if self._gate is not None:
                self._gate.taken()
            if name in KEPT:
                self._inbox.take(name, raw)
            else:
                event = self._parsed(name, raw)
                self._inbox.then(lambda: self._on_connection(name, event))
        except BaseException as error:
            # The event was not stored, but WhatsApp may believe that it was: go before more is lost.
            log.exception("cannot take a %s", name)
            self.end(f"cannot take what arrives: {error}")

    @staticmethod
    def _parsed(name: str, raw: bytes) -> Any:
        """An event of the connection.  That it came says most: one that is damaged counts as one without words."""
        try:
            return parse(name, raw)
        except DecodeError as error:
            log.warning("a damaged %s: %s", name, error)
            return event_class(name)()

    def _cannot_store(self, error: BaseException) -> None:
        if isinstance(error, Damaged):
            self._link.notice("damaged", self._home.spool_db.name, str(error))
            os._exit(6)
        log.error("cannot store what arrives", exc_info=error)
        self.end(f"cannot store what arrives: {error}")

    def _on_connection(self, name: str, event: Any) -> None:
        notice = self._link.notice
        match name:
            case "OfflineSyncCompleted":
                notice("synced")
            case "Connected":
                notice("connected")
            case "Disconnected":
                notice("lost", "the connection to WhatsApp was lost")
            case "StreamError":
                notice("lost", f"WhatsApp ended the stream with code {exact(event, 'Code')}")
            case "KeepAliveTimeout":  # docs/internals/whatsapp-protocol.md#keepalive
                notice("lost", "WhatsApp does not answer")
            case "KeepAliveRestored":
                notice("connected")
            case "LoggedOut":
                notice("logged_out", f"WhatsApp removed this device ({_word(event, 'Reason')})")
                self.end("logged out")
            case "StreamReplaced":
                notice("replaced")
                self.end("replaced by another client")
            case "TemporaryBan":
                seconds = ban_seconds(event.Expire)
                notice("banned", seconds, ban(_word(event, "Code"), seconds, self._clock.wall_ms()))
                self.end("banned")
            case "ClientOutdated":
                self._outdated()
            case "ConnectFailure":
                self.end(
                    f"WhatsApp refused the login ({_word(event, 'Reason')} {shown(event, 'Message')})"
                )

    def _on_status(self, word: str) -> None:
        if word == "success":
            self._link.notice("paired")
        elif word == "timeout":
            self._link.notice("qr_over")
            self.end("nobody scanned the QR code")
        elif word == "err-client-outdated":
            self._outdated()
        elif not word.startswith("code"):
            self.end(f"pairing ended: {word}")

    def _outdated(self) -> None:
        web = self._library.refused_version
        version = f"{VERSION}, WhatsApp Web {web}" if web else VERSION
        self._link.notice("outdated", f"WhatsApp refuses this version of the library ({version})")
        self.end("outdated")

    # --- what the daemon asks, on threads of ours -----------------------------------------------

    def answer(self, method: str, params: Any) -> Any:
        """One request.  Raises WadError."""
        match method, params:
            case "probe", []:
                return self._library.is_connected()
            case "upload", [str(sha256), int(size), int(media_type)]:
                return self._upload(sha256, size, media_type)
            case "send", [str(to), bytes(content), list(envelope)]:
                return self._send(Jid.parse(to), decode(content), Envelope.from_wire(envelope))
            case "on_whatsapp", [list(phones)]:
                return self._library.on_whatsapp(phones)
            case "standing", [str(group), list(me)]:
                return str(self._library.standing(Jid.parse(group), me))
            case "history", [str(me), list(oldest), int(count)]:
                return self._ask(
                    me,
                    lambda m: phone_requests.ask_history(m, KnownMessage.from_wire(oldest), count),
                )
            case "messages", [str(me), list(wanted)]:
                return self._ask(
                    me,
                    lambda m: phone_requests.ask_messages(
                        m, [KnownMessage.from_wire(one) for one in wanted]
                    ),
                )
            case "log_out", []:
                return self._library.log_out()
        raise EngineFailure(f"a worker does not know {method!r}")

    def _ask(self, me: str, fill: Callable[[Any], None]) -> None:
        """Ask our phone; its answer is an event like any other.  Raises NotSupported, EngineFailure."""
        if self._mute:
            raise NotSupported(self._mute)
        message = blank()
        fill(message)
        self._library.send_to_phone(Jid.parse(me), message)

    def _upload(self, sha256: str, size: int, media_type: int) -> list[Any]:
        """An Upload on the wire.  Raises NotFound, Damaged, Unavailable, EngineFailure."""
        found = self._library.upload(outgoing_file.read(self._media, sha256, size), media_type)
        upload = Upload(
            url=exact(found, "url"),
            direct_path=exact(found, "DirectPath"),
            media_key=found.MediaKey,
            enc_sha256=found.FileEncSHA256,
            sha256=found.FileSHA256,
            size=found.FileLength,
            at_ms=self._clock.wall_ms(),
        )
        return upload.to_wire()

    def _send(self, to: Jid, content: Outgoing, envelope: Envelope) -> list[Any]:
        """A result, or ["failed", the library's words]: what became of it is in the session's database."""
        message = blank()
        compose(message, content, envelope)
        try:
            return send_result.to_wire(Sent(*self._library.send(to, message)))
        except EngineFailure as error:
            return ["failed", str(error)]


def _nothing(_messages: list[str]) -> None:
    """Nobody waits for them."""


def _word(event: Any, field: str) -> str:
    descriptor = event.DESCRIPTOR.fields_by_name[field]
    return str(descriptor.enum_type.values_by_number[getattr(event, field)].name).lower()


class RequestReader:
    """What the daemon says; that the lease was renewed is taken note of at once."""

    def __init__(self, sock: socket.socket, permission: Permission) -> None:
        self._socket = sock
        self._permission = permission
        self._decoder = wire.Decoder(wire.REPLY)
        self._reading = threading.Lock()
        self._asked: list[wire.Request] = []
        self._is_over = False

    def catch_up(self) -> None:
        """Take in what was said while this process was busy, and do not wait for more.  From any thread."""
        if self._reading.acquire(timeout=_MOMENT):
            try:
                self._read()
            finally:
                self._reading.release()

    def requests(self) -> Iterator[wire.Request]:
        """What the daemon asks, until it goes away."""
        said = select.poll()
        said.register(self._socket, select.POLLIN)
        while True:
            with self._reading:
                self._read()
                asked, self._asked = self._asked, []
            yield from asked
            if self._is_over:
                return
            said.poll()

    def _read(self) -> None:
        """All that lies there."""
        with suppress(BlockingIOError):
            while data := self._socket.recv(1 << 16, socket.MSG_DONTWAIT):
                self._take(data)
            self._is_over = True

    def _take(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            match frame:
                case wire.Request():
                    self._asked.append(frame)
                case wire.Notice("until", [float(until) | int(until)]):
                    self._permission.extend(until)
                case _:
                    log.warning("the daemon sent %s", type(frame).__name__)


def serve(worker: WorkerProcess, link: DaemonSocket, ear: RequestReader, faults: Faults) -> None:
    """Answer the daemon until it goes away; never returns."""
    # A probe must never wait behind a call that hangs: it is how the daemon finds out that one does.
    pools = {"probe": ThreadPoolExecutor(1, "probe")}
    calls = ThreadPoolExecutor(4, "call")

    def respond(request: wire.Request) -> None:
        try:
            link.send(
                wire.Response(request.id, None, worker.answer(request.method, request.params))
            )
        except WadError as error:
            link.send(wire.Response(request.id, error, None))
        except Exception as error:
            log.exception("%s failed", request.method)
            link.send(
                wire.Response(request.id, EngineFailure(f"{type(error).__name__}: {error}"), None)
            )

    for request in ear.requests():
        pool = pools.get(request.method, calls)
        pool.submit(faults.guarded("an answer", partial(respond, request)))
    os._exit(5)  # the daemon is gone


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(5)


def _confine(given: argparse.Namespace) -> Confinement:
    """Give up what one account's process has no need of; nothing of strangers was read before."""
    return confine(Wants(given.home, given.media, code_paths(os.environ), os.environ))


def main() -> None:
    """The process's entry."""
    parser = argparse.ArgumentParser(
        prog="wad-worker", description="One account of wad; started by the daemon."
    )
    parser.add_argument("--account", required=True)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--media", required=True, type=Path)
    parser.add_argument("--fd", required=True, type=int)
    parser.add_argument("--parent", required=True, type=int)
    parser.add_argument("--until", required=True, type=float)
    parser.add_argument("--device", required=True)
    given = parser.parse_args()
    _die_with_parent(given.parent)
    ignore_what_is_the_daemons()
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    found = _confine(given)
    sock = socket.socket(fileno=given.fd)
    os.set_inheritable(given.fd, False)
    link = DaemonSocket(sock)
    faults = Faults(link.last_word)
    faults.install()
    link.notice("confined", found.landlock, found.seccomp, list(found.why), found.exposed)
    permission = Permission(given.until, SystemClock())
    home = AccountDir(given.home)
    try:
        _work(given, home, link, sock, permission, faults, found)
    except (
        BaseException
    ) as error:  # an interpreter that ends would wait for threads that cannot be joined
        faults.end("the main thread", error)


def _work(
    given: argparse.Namespace,
    home: AccountDir,
    link: DaemonSocket,
    sock: socket.socket,
    permission: Permission,
    faults: Faults,
    confinement: Confinement,
) -> None:
    try:
        lock = lock_account(home)  # held until the process is gone
        session_db.check(home.session_db)
        spool = Spool.open(home.spool_db)
        worker = WorkerProcess(home, given.media, given.account, given.device, link, spool)
    except Damaged as error:
        file = home.spool_db if str(home.spool_db) in str(error) else home.session_db
        link.notice("damaged", file.name, str(error))
        os._exit(6)
    except WadError as error:
        link.notice("ending", str(error))
        os._exit(6)
    if not confinement.landlock:
        # Nothing else keeps other workers out of this one's memory.  Not earlier: the library was changed through
        # /proc/self/mem.  And not always: the daemon could not see any more what this process does.
        close_to_others()
    signal.signal(signal.SIGTERM, lambda *_: worker.leave())
    ear = RequestReader(sock, permission)
    ear.catch_up()  # the lease may have been renewed while this process was loading
    permission.watch(ear.catch_up)
    worker.start()
    serve(worker, link, ear, faults)
    os.close(lock)


if __name__ == "__main__":
    main()
