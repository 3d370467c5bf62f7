"""One account's process: the library on one side, the daemon's socketpair on the other, the spool between.

    python -m wad.engine.worker --account ID --home DIR --media DIR --fd N --parent PID --permit SECONDS --device NAME

Law: what the library hands over is appended to the spool, committed, before its handler returns; only then is the
daemon told.  The process acts only while it is permitted to (a deadline on its own CLOCK_BOOTTIME that each renewal of
the lease moves on), dies with the daemon, and never restarts the library in place: whatever ends the connection for
good ends the process, and a fresh one takes its place.  It always leaves by os._exit: the library's threads cannot be
joined (engine.md 3).

What is not guaranteed: the library tells WhatsApp that a message arrived when the event enters its own queue, before
the handler runs; what is in that queue when the process is killed is lost (`receipts: early`, engine.md 4).
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from wad import media
from wad.clock import SystemClock
from wad.core import event as words
from wad.core import wire
from wad.core.errors import Damaged, EngineFailure, StateUnwritable, Unavailable, WadError
from wad.core.jid import Jid
from wad.core.outbox import Sent
from wad.core.outgoing import Outgoing, decode
from wad.engine import fate, session
from wad.engine.compose import Envelope, Upload, compose
from wad.engine.library import Library, blank, parse
from wad.engine.translate import Untranslatable, message, receipt
from wad.home import Home, lock_account
from wad.spool import Spool

log = logging.getLogger("wad.worker")

_PR_SET_PDEATHSIG: Final = 1
_QUIET: Final = (
    0.3  # seconds without an event after which a disconnected library has handed out all it had
)
_DISK_RETRY: Final = 0.5  # seconds between tries while the disk refuses
_TRANSLATORS: Final[dict[str, Callable[[Any], words.Event | None]]] = {
    "Message": message,
    "Receipt": receipt,
}
_KEPT_RAW: Final = {
    "HistorySync": "history sync is not translated yet",
    "UndecryptableMessage": "could not be decrypted; the sender was asked to send it again",
}


class Inbox:
    """Library to spool: every event that carries a fact, translated where possible, committed."""

    def __init__(self, spool: Spool, clock: SystemClock) -> None:
        self._spool = spool
        self._clock = clock
        self.busy = False
        self.last_event = clock.monotonic()

    def take(self, name: str, raw: bytes) -> int | None:
        """Store one event; its row, or None where it carries nothing to keep."""
        self.busy = True
        try:
            return self._store(name, raw)
        finally:
            self.busy = False
            self.last_event = self._clock.monotonic()

    def _store(self, name: str, raw: bytes) -> int | None:
        event, wa_id, reason = None, "", _KEPT_RAW.get(name, "")
        if name in _TRANSLATORS:
            try:
                event = _TRANSLATORS[name](parse(name, raw))
            except Untranslatable as error:
                reason = str(error)
            except Exception as error:  # whatever it is, the raw event is kept and counted
                reason = f"{type(error).__name__}: {error}"
                log.exception("cannot translate a %s", name)
            else:
                if event is None:
                    return None
        if isinstance(event, words.MessageReceived):
            wa_id = event.id
        return self._spool.append(
            received_ms=self._clock.wall_ms(),
            kind=name.lower(),
            wa_id=wa_id,
            raw=raw,
            event=words.encode(event) if event is not None else None,
            reason=reason,
        )


class Link:
    """The daemon's end of the socketpair.  Any thread may send."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._spooled = 0
        self._news = threading.Event()
        threading.Thread(target=self._announce, name="announce", daemon=True).start()

    def send(self, frame: wire.Frame) -> None:
        """Write one frame."""
        with self._lock:
            self._socket.sendall(wire.encode(frame))

    def notice(self, method: str, *params: Any) -> None:
        """Tell the daemon something."""
        self.send(wire.Notice(method, list(params)))

    def spooled(self, seq: int) -> None:
        """Say that there are new rows; never waits, so that a slow daemon cannot hold up the library's handler."""
        self._spooled = seq
        self._news.set()

    def _announce(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            self.notice("spooled", self._spooled)


class Permission:
    """The right to act, as a deadline on this process's CLOCK_BOOTTIME; the process ends when it runs out."""

    def __init__(self, seconds: float, clock: SystemClock) -> None:
        self._clock = clock
        self._until = clock.monotonic() + seconds
        threading.Thread(target=self._watch, name="permission", daemon=True).start()

    def extend(self, seconds: float) -> None:
        """The lease was renewed; never shortens."""
        self._until = max(self._until, self._clock.monotonic() + seconds)

    def _watch(self) -> None:
        while (left := self._until - self._clock.monotonic()) > 0:
            time.sleep(min(left, 1.0))
        print("the permission to act ran out", file=sys.stderr, flush=True)
        os._exit(4)


class Worker:
    """Ties library, spool and link together."""

    def __init__(
        self, home: Home, media: Path, account: str, device: str, link: Link, spool: Spool
    ) -> None:
        self._home = home
        self._media = media
        self._link = link
        self._clock = SystemClock()
        self._inbox = Inbox(spool, self._clock)
        self._library = Library(
            home.session_db,
            account,
            device,
            on_event=self._on_event,
            on_qr=lambda code: link.notice("qr", code),
            on_status=self._on_status,
        )

    def start(self) -> None:
        """Connect, on a thread of its own."""
        threading.Thread(target=self._connect, name="connect", daemon=True).start()

    def _connect(self) -> None:
        why = "the connection ended"
        try:
            self._library.connect()
        except EngineFailure as error:
            why = str(error)
        except (
            BaseException
        ) as error:  # whatever it was, this process is of no more use and says so
            log.exception("connect failed")
            why = f"{type(error).__name__}: {error}"
        self.end(why)

    def end(self, why: str) -> None:
        """Leave at once, with a reason.  Left running, the library would go on acknowledging into a dead queue."""
        self._link.notice("ending", why)
        os._exit(3)

    def leave(self) -> None:
        """The graceful end: close the socket, let all that has arrived be stored, only then stop (engine.md 4)."""
        self._library.disconnect()
        closed = self._clock.monotonic()
        while (
            self._inbox.busy
            or self._clock.monotonic() - max(closed, self._inbox.last_event) < _QUIET
        ):
            time.sleep(0.01)
        self._library.stop()
        os._exit(0)

    # --- what the library tells, on its threads ------------------------------------------------

    def _on_event(self, name: str, raw: bytes) -> None:
        try:
            if name in _TRANSLATORS or name in _KEPT_RAW:
                self._keep(name, raw)
            else:
                self._on_connection(name, parse(name, raw))
        except Damaged as error:
            self._link.notice("damaged", self._home.spool_db.name, str(error))
            os._exit(6)
        except BaseException as error:
            # The event was not stored, but WhatsApp may believe that it was: go before more is lost.
            log.exception("cannot store a %s", name)
            self.end(f"cannot store what arrives: {error}")

    def _keep(self, name: str, raw: bytes) -> None:
        """Store an event, however long the disk refuses.

        While this waits, the library takes its queue's worth more and acknowledges nothing beyond that.
        """
        held = ""
        while True:
            try:
                seq = self._inbox.take(name, raw)
            except (StateUnwritable, Unavailable) as error:
                if str(error) != held:
                    held = str(error)
                    self._link.notice("held", f"what arrives cannot be stored and waits: {held}")
                time.sleep(_DISK_RETRY)
                continue
            if held:
                self._link.notice("held", "")
            if seq is not None:
                self._link.spooled(seq)
            return

    def _on_connection(self, name: str, event: Any) -> None:
        notice = self._link.notice
        match name:
            case "Connected":
                notice("identity", *session.identity(self._home.session_db))
                notice("connected")
            case "Disconnected":
                notice("lost", "the connection to WhatsApp was lost")
            case "StreamError":
                notice("lost", f"WhatsApp ended the stream with code {event.Code}")
            case "KeepAliveTimeout":
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
                notice("banned", event.Expire, f"banned for a time ({_word(event, 'Code')})")
                self.end("banned")
            case "ClientOutdated":
                notice("outdated", "WhatsApp refuses this version of the library")
                self.end("outdated")
            case "ConnectFailure":
                self.end(f"WhatsApp refused the login ({_word(event, 'Reason')} {event.Message})")

    def _on_status(self, word: str) -> None:
        if word == "success":
            self._link.notice("paired")
        elif word == "timeout":
            self._link.notice("qr_over")
            self.end("nobody scanned the QR code")
        elif word == "err-client-outdated":
            self._link.notice("outdated", "WhatsApp refuses this version of the library")
            self.end("outdated")
        elif not word.startswith("code"):
            self.end(f"pairing ended: {word}")

    # --- what the daemon asks, on threads of ours -----------------------------------------------

    def answer(self, method: str, params: Any) -> Any:
        """One request.  Raises WadError."""
        match method, params:
            case "probe", []:
                return self._library.is_connected()
            case "upload", [str(sha256), int(size), int(media_type)]:
                return self._upload(sha256, size, media_type)
            case "send", [str(to), bytes(content), bytes(secret), int(asked_ms), upload]:
                sent_with = None if upload is None else msgspec.convert(upload, Upload)
                return self._send(Jid.parse(to), decode(content), secret, asked_ms, sent_with)
            case "on_whatsapp", [list(phones)]:
                return self._library.on_whatsapp(phones)
            case "log_out", []:
                return self._library.log_out()
        raise EngineFailure(f"a worker does not know {method!r}")

    def _upload(self, sha256: str, size: int, media_type: int) -> Any:
        found = self._library.upload(media.read(self._media, sha256, size), media_type)
        return msgspec.to_builtins(
            Upload(
                url=found.url,
                direct_path=found.DirectPath,
                media_key=found.MediaKey,
                enc_sha256=found.FileEncSHA256,
                sha256=found.FileSHA256,
                size=found.FileLength,
                at_ms=self._clock.wall_ms(),
            ),
            builtin_types=(bytes,),
        )

    def _send(
        self, to: Jid, content: Outgoing, secret: bytes, asked_ms: int, upload: Upload | None
    ) -> list[Any]:
        jid, _, _ = session.identity(self._home.session_db)
        me = str(Jid.parse(jid).bare()) if jid else ""
        message = blank()
        compose(message, content, Envelope(secret, me, asked_ms, upload))
        try:
            wa_id, at_ms = self._library.send(to, message)
        except EngineFailure as error:
            found = session.sent_as(self._home.session_db, secret)
            return fate.to_wire(fate.classify(str(error), found))
        return fate.to_wire(Sent(wa_id, at_ms))


def _word(event: Any, field: str) -> str:
    descriptor = event.DESCRIPTOR.fields_by_name[field]
    return str(descriptor.enum_type.values_by_number[getattr(event, field)].name).lower()


def serve(worker: Worker, link: Link, sock: socket.socket, permission: Permission) -> None:
    """Answer the daemon until it goes away; never returns."""
    # A probe must never wait behind a call that hangs: it is how the daemon finds out that one does.
    pools = {"probe": ThreadPoolExecutor(1, "probe")}
    calls = ThreadPoolExecutor(4, "call")
    decoder = wire.Decoder()

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

    while data := sock.recv(1 << 16):
        for frame in decoder.feed(data):
            match frame:
                case wire.Request():
                    pools.get(frame.method, calls).submit(respond, frame)
                case wire.Notice("permit", [float(seconds) | int(seconds)]):
                    permission.extend(seconds)
                case _:
                    log.warning("the daemon sent %s", type(frame).__name__)
    os._exit(5)  # the daemon is gone


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(5)


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
    parser.add_argument("--permit", required=True, type=float)
    parser.add_argument("--device", required=True)
    given = parser.parse_args()
    _die_with_parent(given.parent)
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    sock = socket.socket(fileno=given.fd)
    os.set_inheritable(given.fd, False)
    link = Link(sock)
    permission = Permission(given.permit, SystemClock())
    home = Home(given.home)
    try:
        lock = lock_account(home)  # held until the process is gone
        session.check(home.session_db)
    except Damaged as error:
        link.notice("damaged", home.session_db.name, str(error))
        os._exit(6)
    except WadError as error:
        link.notice("ending", str(error))
        os._exit(6)
    try:
        spool = Spool.open(home.spool_db)
    except Damaged as error:
        link.notice("damaged", home.spool_db.name, str(error))
        os._exit(6)
    except WadError as error:
        link.notice("ending", str(error))
        os._exit(6)
    worker = Worker(home, given.media, given.account, given.device, link, spool)
    signal.signal(signal.SIGTERM, lambda *_: worker.leave())
    worker.start()
    serve(worker, link, sock, permission)
    os.close(lock)


if __name__ == "__main__":
    main()
