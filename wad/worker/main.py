"""The process of one account: the library, the socketpair to the daemon, and the spool.

    python -m wad.worker.main --account ID --account-dir DIR --media DIR --fd N --parent PID --until TIME --device NAME

Rule: an event is committed to the spool before the daemon is notified, and before WhatsApp receives the receipt
(`receipts: after-store`, wad/worker/receipt_gate.py).  With an unknown build of the library the second part does not
hold (`receipts: early`): events in the library's queue are then lost when the process is killed.  The process reports
which of the two applies.

First of all it drops the rights that it does not need (wad/worker/confinement/rules.py), and reports what the kernel
enforces.

It never opens the session's database while the library has it open (wad/engine/lost_messages.py says why).

It acts only while it has permission (a time on the machine's CLOCK_BOOTTIME that each renewal of the lease extends),
dies with the daemon, and never restarts the library in place: whatever ends the connection for good ends the process,
and a new process replaces it.  It always exits by os._exit: the library's threads cannot be joined
(docs/internals/library.md#loading).
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from wad.core import send_result
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
from wad.lib.dumpable import make_undumpable
from wad.lib.signals import ignore_daemon_signals
from wad.state import outgoing_file
from wad.state.account_dir import AccountDir, lock_account
from wad.state.spool import Spool
from wad.worker import memory, phone_requests
from wad.worker.addressing import Me, addressed
from wad.worker.c_interface import VERSION, Functions, shared_object
from wad.worker.confinement.rules import Needs, code_paths, confine
from wad.worker.faults import Faults
from wad.worker.inbox import STORED_EVENTS, Inbox
from wad.worker.library import Library, blank, event_class, parse
from wad.worker.link import DaemonSocket, Permission
from wad.worker.log_lines import dropped_message
from wad.worker.message_secrets import MessageSecrets, known_secrets
from wad.worker.patching import NotThisBuild
from wad.worker.protobuf import DecodeError
from wad.worker.receipt_gate import ReceiptGate, keep_plaintexts
from wad.worker.requests import RequestReader, serve
from wad.worker.translate.base import exact, shown
from wad.worker.translation import OpeningKeys

log = logging.getLogger("wad.worker")

_PR_SET_PDEATHSIG: Final = 1
_QUIET: Final = 0.3
"""Seconds without an event after which a disconnected library has delivered all its events."""
_RELEASE_INTERVAL: Final = 5.0  # seconds
_DRAIN_TIMEOUT: Final = (
    5.0  # seconds for storing the events that have arrived, before a worker ends
)


class WorkerProcess:
    """Connects the library, the spool and the daemon's socket."""

    def __init__(
        self,
        account_dir: AccountDir,
        media: Path,
        account: str,
        device: str,
        link: DaemonSocket,
        spool: Spool,
        secrets: MessageSecrets,
    ) -> None:
        """Load the library.  Raises EngineFailure, Damaged, Unavailable, StateUnwritable."""
        self._account_dir = account_dir
        self._media = media
        self._link = link
        self._clock = SystemClock()
        self._secrets = secrets
        file = shared_object()
        functions = Functions(file)
        self._patched: list[int] = []
        self._gate = self._install_gate(file)
        self._phone_requests_unsupported = self._enable_phone_requests(file)
        self._inbox = Inbox(
            spool,
            self._clock,
            keys=OpeningKeys(
                lambda raw: self._library.read_vote(raw),
                secrets,
                lambda lid: self._library.other_address(lid),
            ),
            batch=self._gate is not None,
            on_stored=link.report_spooled,
            on_done=_ignore if self._gate is None else self._gate.processed,
            on_held=lambda why: link.notice("held", why),
            on_failed=self._cannot_store,
        )
        self._library = Library(
            functions,
            account_dir.session_db,
            account,
            device,
            on_event=self._on_event,
            on_qr=lambda code: link.notice("qr", code),
            on_status=self._on_status,
            on_line=None if self._gate is None else self._on_log_line,
        )

    def _install_gate(self, file: Path) -> ReceiptGate | None:
        """Make receipts wait for the commit, if the build allows it; report which of the two applies."""
        try:
            self._patched.append(keep_plaintexts(file))
        except NotThisBuild as error:
            log.warning("receipts are sent early: %s", error)
            self._link.notice("receipts", "early", str(error))
            return None
        self._link.notice("receipts", "after-store", "")
        return ReceiptGate(
            on_unsaved=lambda: self.end("the session cannot be saved: the disk refuses")
        )

    def _enable_phone_requests(self, file: Path) -> str:
        """Enable requests to the account's phone, if the build allows it; returns the reason if it does not."""
        try:
            self._patched += phone_requests.enable_peer_messages(file)
        except NotThisBuild as error:
            log.warning("requests to the phone are not supported: %s", error)
            self._link.notice("phone_requests", str(error))
            return str(error)
        self._link.notice("phone_requests", "")
        return ""

    def start(self) -> None:
        """Connect, on a separate thread."""
        threading.Thread(target=self._connect, name="connect", daemon=True).start()
        threading.Thread(target=self._release_memory, name="memory", daemon=True).start()

    def _connect(self) -> None:
        why = "the connection ended"
        try:
            self._library.connect()
        except EngineFailure as error:
            why = why_it_ended(str(error))
            if is_ban(str(error)):
                self._link.notice("banned", 0, why)
        except BaseException as error:  # the process is of no further use
            log.exception("connect failed")
            why = f"{type(error).__name__}: {error}"
        self._inbox.drain(_DRAIN_TIMEOUT)
        self.end(why)

    def _release_memory(self) -> None:
        """Release memory each time the library becomes idle after an event."""
        seen = 0.0
        while True:
            time.sleep(_RELEASE_INTERVAL)
            last = self._inbox.last_event
            if last != seen and self._clock.monotonic() - last > _RELEASE_INTERVAL / 2:
                seen = last
                memory.release(self._patched)

    def end(self, why: str) -> None:
        """End the process at once, with a reason.  Otherwise the library would acknowledge messages that are lost."""
        self._link.notice("ending", why)
        os._exit(3)

    def shut_down(self) -> None:
        """Stop gracefully: close the socket, store everything that has arrived, only then stop the library.

        See docs/internals/library.md#events.  A receipt that is still held cannot be sent any more; WhatsApp sends
        its message again, which is then recognised as a duplicate.
        """
        self._library.disconnect()
        closed = self._clock.monotonic()
        while (
            not self._inbox.drain(_QUIET)
            or self._clock.monotonic() - max(closed, self._inbox.last_event) < _QUIET
        ):
            time.sleep(0.01)
        self._library.stop()
        os._exit(0)

    # --- callbacks, on the library's threads ----------------------------------------------------

    def _on_log_line(self, logger: str, text: str) -> None:
        assert self._gate is not None
        try:
            self._gate.on_log_line(logger, text)
            if why := dropped_message(logger, text):
                self._gate.handed_over()
                self._inbox.take_dropped(why)
        except BaseException as error:  # without the gate the receipt would be sent now
            log.exception("the gate failed")
            self.end(f"cannot hold receipts: {type(error).__name__}")

    def _on_event(self, name: str, raw: bytes) -> None:
        try:
            if self._gate is not None:
                self._gate.handed_over()
            if name in STORED_EVENTS:
                self._inbox.take(name, raw)
            else:
                event = self._parsed(name, raw)
                self._inbox.run_after(lambda: self._on_connection(name, event))
        except BaseException as error:
            # The event was not stored, but WhatsApp may count it as delivered: end before more events are lost.
            log.exception("cannot take a %s", name)
            self.end(f"cannot take what arrives: {error}")

    @staticmethod
    def _parsed(name: str, raw: bytes) -> Any:
        """An event of the connection.  Its name is the main information: a damaged one counts as one without fields."""
        try:
            return parse(name, raw)
        except DecodeError as error:
            log.warning("a damaged %s: %s", name, error)
            return event_class(name)()

    def _cannot_store(self, error: BaseException) -> None:
        if isinstance(error, Damaged):
            self._link.notice("damaged", self._account_dir.spool_db.name, str(error))
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
                notice(
                    "logged_out", f"WhatsApp removed this device ({_enum_name(event, 'Reason')})"
                )
                self.end("logged out")
            case "StreamReplaced":
                notice("replaced")
                self.end("replaced by another client")
            case "TemporaryBan":
                seconds = ban_seconds(event.Expire)
                notice(
                    "banned",
                    seconds,
                    ban(_enum_name(event, "Code"), seconds, self._clock.wall_ms()),
                )
                self.end("banned")
            case "ClientOutdated":
                self._outdated()
            case "ConnectFailure":
                reason = f"{_enum_name(event, 'Reason')} {shown(event, 'Message')}"
                self.end(f"WhatsApp refused the login ({reason})")

    def _on_status(self, status: str) -> None:
        if status == "success":
            self._link.notice("paired")
        elif status == "timeout":
            self._link.notice("qr_over")
            self.end("nobody scanned the QR code")
        elif status == "err-client-outdated":
            self._outdated()
        elif not status.startswith("code"):
            self.end(f"pairing ended: {status}")

    def _outdated(self) -> None:
        web = self._library.refused_version
        version = f"{VERSION}, WhatsApp Web {web}" if web else VERSION
        self._link.notice("outdated", f"WhatsApp refuses this version of the library ({version})")
        self.end("outdated")

    # --- the daemon's requests, on the worker's threads -------------------------------------------

    def answer(self, method: str, params: Any) -> Any:
        """Handle one request.  Raises WadError."""
        match method, params:
            case "probe", []:
                return self._library.is_connected()
            case "upload", [str(sha256), int(size), int(media_type)]:
                return self._upload(sha256, size, media_type)
            case "send", [str(to), bytes(content), list(envelope)]:
                return self._send(Jid.parse(to), decode(content), Envelope.from_wire(envelope))
            case "find_number", [str(phone)]:
                found = self._library.find_number(phone)
                return None if found is None else [str(jid or "") for jid in found]
            case "group_role", [str(group), list(me)]:
                return str(self._library.group_role(Jid.parse(group), me))
            case "history", [str(me), list(oldest), int(count)]:
                return self._request_from_phone(
                    me,
                    lambda m: phone_requests.ask_history(m, KnownMessage.from_wire(oldest), count),
                )
            case "messages", [str(me), list(wanted)]:
                return self._request_from_phone(
                    me,
                    lambda m: phone_requests.ask_messages(
                        m, [KnownMessage.from_wire(one) for one in wanted]
                    ),
                )
            case "pairing_code", [str(phone)]:
                return self._library.pairing_code(phone)
            case "log_out", []:
                return self._library.log_out()
        raise EngineFailure(f"unknown request to a worker: {method!r}")

    def _request_from_phone(self, me: str, fill: Callable[[Any], None]) -> None:
        """Send a request to our phone; its answer is an ordinary event.  Raises NotSupported, EngineFailure."""
        if self._phone_requests_unsupported:
            raise NotSupported(self._phone_requests_unsupported)
        message = blank()
        fill(message)
        self._library.send_to_phone(Jid.parse(me), message)

    def _upload(self, sha256: str, size: int, media_type: int) -> list[Any]:
        """Upload a file; returns an Upload in its wire form.  Raises NotFound, Damaged, Unavailable, EngineFailure."""
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
        """Send; a result, or ["failed", the library's error text]: the session's database has the actual result."""
        message, me = blank(), Me(envelope.me, envelope.lid)
        try:
            compose(message, addressed(content, to, me, self._library), envelope)
            sent = Sent(*self._library.send(to, message))
        except EngineFailure as error:
            return ["failed", str(error)]
        self._secrets.add_sent(sent.wa_id, envelope.secret, envelope.me)
        return send_result.to_wire(sent)


def _ignore(_messages: list[str]) -> None:
    """Without a gate no receipt waits."""


def _enum_name(event: Any, field: str) -> str:
    descriptor = event.DESCRIPTOR.fields_by_name[field]
    return str(descriptor.enum_type.values_by_number[getattr(event, field)].name).lower()


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(5)


def _confine(given: argparse.Namespace) -> Confinement:
    """Drop the rights that a worker does not need, before anything from strangers is read."""
    return confine(Needs(given.account_dir, given.media, code_paths(os.environ), os.environ))


def main() -> None:
    """The entry point of the process."""
    parser = argparse.ArgumentParser(
        prog="wad-worker", description="One account of wad; started by the daemon."
    )
    parser.add_argument("--account", required=True)
    parser.add_argument("--account-dir", required=True, type=Path)
    parser.add_argument("--media", required=True, type=Path)
    parser.add_argument("--fd", required=True, type=int)
    parser.add_argument("--parent", required=True, type=int)
    parser.add_argument("--until", required=True, type=float)
    parser.add_argument("--device", required=True)
    given = parser.parse_args()
    _die_with_parent(given.parent)
    ignore_daemon_signals()
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    found = _confine(given)
    sock = socket.socket(fileno=given.fd)
    os.set_inheritable(given.fd, False)
    link = DaemonSocket(sock)
    faults = Faults(link.send_final_notice)
    faults.install()
    link.notice("confined", found.landlock, found.seccomp, list(found.why), found.exposed)
    permission = Permission(given.until, SystemClock())
    account_dir = AccountDir(given.account_dir)
    try:
        _work(given, account_dir, link, sock, permission, faults, found)
    except BaseException as error:
        # An interpreter that exits would wait for threads that cannot be joined.
        faults.end("the main thread", error)


def _work(
    given: argparse.Namespace,
    account_dir: AccountDir,
    link: DaemonSocket,
    sock: socket.socket,
    permission: Permission,
    faults: Faults,
    confinement: Confinement,
) -> None:
    try:
        lock = lock_account(account_dir)  # held until the process is gone
        session_db.check(account_dir.session_db)
        spool = Spool.open(account_dir.spool_db)
        secrets = known_secrets(account_dir, spool)
        worker = WorkerProcess(
            account_dir, given.media, given.account, given.device, link, spool, secrets
        )
    except Damaged as error:
        file = (
            account_dir.spool_db
            if str(account_dir.spool_db) in str(error)
            else account_dir.session_db
        )
        link.notice("damaged", file.name, str(error))
        os._exit(6)
    except WadError as error:
        link.notice("ending", str(error))
        os._exit(6)
    if not confinement.landlock:
        # Without Landlock, other workers could read this one's memory.  Not earlier: the library was patched through
        # /proc/self/mem.  Not always: the daemon could no longer see what this process uses.
        make_undumpable()
    signal.signal(signal.SIGTERM, lambda *_: worker.shut_down())
    reader = RequestReader(sock, permission)
    reader.read_pending()  # the lease may have been renewed while this process was loading
    permission.watch(reader.read_pending)
    worker.start()
    serve(worker.answer, link, reader, faults)
    os.close(lock)


if __name__ == "__main__":
    main()
