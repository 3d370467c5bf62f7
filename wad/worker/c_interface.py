"""The part of the library's C interface that wad calls: none of neonize's Python is imported.

Importing `neonize.client` costs 22 MB and includes a download from the network, helper processes, a thread, and a
configured root logger (docs/internals/library.md#loading).  What is declared here is what neonize 0.5.2
declares in `_binder.py` and calls in `client.py`.

Memory: a string or a buffer that a function returns belongs to wad and is freed after copying (`FreeString`,
`FreeBytesStruct`); a callback's arguments belong to the library, are valid until the callback returns, and are copied
at once.  Every call releases the GIL.  Callbacks run on threads of the library; they and the buffers given to `Neonize`
must live as long as the process, so `Functions` objects are never collected.

A thread that Python did not create gets a Python thread state for the length of a callback, and with it a stack:
memory that is mapped, touched and unmapped, several times for each message.  The library has few threads, and they
stay; so a callback keeps the state of its thread (`_keep_thread`).
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import threading
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_bool, c_char_p, c_int, c_size_t, c_void_p, string_at
from pathlib import Path
from typing import Final
from urllib.parse import quote

from wad.core.errors import EngineFailure

VERSION: Final = "0.5.2"
"""The version of neonize whose C interface this is."""

_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}

_Text = CFUNCTYPE(None, c_void_p, c_void_p)  # uuid, text with a NUL at its end
_Event = CFUNCTYPE(None, c_void_p, c_void_p, c_int, c_int)  # uuid, bytes, their size, kind
_Log = CFUNCTYPE(None, c_void_p, c_int)  # a LogEntry, its size


class _Thread(threading.local):
    """What is known about the current thread."""

    kept = False


_thread: Final = _Thread()


def _keep_thread() -> None:
    """Keep the Python state of this thread from now on: one that is ensured once more than released is never freed."""
    if not _thread.kept:
        ctypes.pythonapi.PyGILState_Ensure()
        _thread.kept = True


class _Bytes(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


def package() -> Path:
    """The directory of the installed neonize, which is not imported.  Raises EngineFailure."""
    spec = importlib.util.find_spec("neonize")
    if spec is None or not spec.submodule_search_locations:
        raise EngineFailure("neonize is not installed")
    return Path(spec.submodule_search_locations[0])


def shared_object() -> Path:
    """The library's file.  It is never downloaded.  Raises EngineFailure."""
    machine = platform.machine()
    file = package() / f"neonize-linux-{_MACHINES.get(machine, machine)}.so"
    if not file.exists():
        raise EngineFailure(f"neonize has no library for this machine: {file} is missing")
    return file.resolve()


def dsn(database: Path) -> str:
    """The database address for the library: with WAL, immediate transactions, and every commit synced."""
    # It appends "?_foreign_keys=on" to the address; the last parameter absorbs that
    # (docs/internals/library.md#database-and-identity).
    options = "_foreign_keys=on&_journal_mode=WAL&_busy_timeout=10000&_txlock=immediate&_synchronous=FULL&_x="
    return f"{quote(str(database))}?{options}"


class Functions:
    """The loaded library.  One per process; it cannot be unloaded."""

    def __init__(self, file: Path) -> None:
        """Load it.  Raises EngineFailure for a version whose interface is unknown."""
        try:
            self._go = ctypes.CDLL(str(file))
        except OSError as error:
            raise EngineFailure(f"cannot load the WhatsApp library: {error}") from error
        self._go.GetVersion.restype = c_char_p  # called once; its few bytes are never freed
        version = self._go.GetVersion().decode(errors="replace")
        if version != VERSION:
            raise EngineFailure(f"the WhatsApp library is version {version}; wad needs {VERSION}")
        self._declare()
        self._kept: tuple[object, ...] = ()

    def _declare(self) -> None:
        go = self._go
        go.FreeString.argtypes = [c_void_p]
        go.FreeString.restype = None
        go.FreeBytesStruct.argtypes = [ctypes.POINTER(_Bytes)]
        go.FreeBytesStruct.restype = None
        go.Neonize.argtypes = [
            c_char_p, c_char_p, c_char_p, c_int, c_int, c_char_p, _Text, _Text, _Event, _Log,
            c_char_p, c_int, c_char_p, c_int, c_char_p, c_int, c_void_p,
        ]  # fmt: skip
        go.IsConnected.argtypes = [c_char_p]
        go.IsConnected.restype = c_bool
        go.Disconnect.argtypes = [c_char_p]
        go.Disconnect.restype = None
        for function in (go.Stop, go.Logout):
            function.argtypes = [c_char_p]
        for function in (go.Neonize, go.Stop, go.Logout):
            function.restype = c_void_p
        go.GetAllDevices.argtypes = [c_char_p, _Log]
        go.GetAllDevices.restype = c_void_p
        go.SendMessage.argtypes = [c_char_p, c_char_p, c_int, c_char_p, c_int]
        go.Upload.argtypes = [c_char_p, c_char_p, c_int, c_int]
        go.IsOnWhatsApp.argtypes = [c_char_p, c_char_p, c_int]
        go.GetGroupInfo.argtypes = [c_char_p, c_char_p, c_int]
        for function in (go.DecryptPollVote, go.PairPhone, go.GetLIDFromPN, go.GetPNFromLID):
            function.argtypes = [c_char_p, c_char_p, c_int]
        for function in (
            go.SendMessage, go.Upload, go.IsOnWhatsApp, go.GetGroupInfo, go.DecryptPollVote, go.PairPhone,
            go.GetLIDFromPN, go.GetPNFromLID,
        ):  # fmt: skip
            function.restype = ctypes.POINTER(_Bytes)

    def run(
        self,
        database: str,
        uuid: bytes,
        properties: bytes,
        *,
        log_level: bytes,
        kinds: bytes,
        on_qr: Callable[[bytes], None],
        on_status: Callable[[str], None],
        on_event: Callable[[int, bytes], None],
        on_log: Callable[[bytes], None],
    ) -> str:
        """Connect and block; returns when the client was stopped or gave up, with its error or an empty text.

        `kinds`: one byte for each requested kind of event.  Call it once.
        """

        def event(_uuid: int, data: int, size: int, kind: int) -> None:
            _keep_thread()
            on_event(kind, string_at(data, size))

        def line(data: int, size: int) -> None:
            _keep_thread()
            on_log(string_at(data, size))

        callbacks = (
            _Text(lambda _uuid, text: on_qr(string_at(text))),
            _Text(lambda _uuid, text: on_status(string_at(text).decode(errors="replace"))),
            _Event(event),
            _Log(line),
        )
        self._kept = (callbacks, kinds, properties)
        error = self._go.Neonize(
            database.encode(), uuid, b"", 0, 0, log_level, *callbacks,
            kinds, len(kinds), properties, len(properties), b"", 0, None,
        )  # fmt: skip
        return self._text(error)

    def make_tables(self, database: str) -> str:
        """Create the library's tables in a database that has none, without the network; an error or an empty text.

        Listing the devices does that.  It leaves the database open: the process has to end
        (docs/internals/library.md#database-and-identity).
        """
        callback = _Log(lambda _data, _size: None)
        self._kept = (*self._kept, callback)
        return self._text(self._go.GetAllDevices(database.encode(), callback))

    def is_connected(self, uuid: bytes) -> bool:
        """Whether the socket is open."""
        return bool(self._go.IsConnected(uuid))

    def disconnect(self, uuid: bytes) -> None:
        """Close the socket."""
        self._go.Disconnect(uuid)

    def stop(self, uuid: bytes) -> str:
        """Stop the client; an error or an empty text."""
        return self._text(self._go.Stop(uuid))

    def log_out(self, uuid: bytes) -> str:
        """Log out; an error or an empty text."""
        return self._text(self._go.Logout(uuid))

    def send_message(self, uuid: bytes, to: bytes, message: bytes) -> bytes:
        """A serialized SendMessageReturnFunction."""
        return self._bytes(self._go.SendMessage(uuid, to, len(to), message, len(message)))

    def upload(self, uuid: bytes, data: bytes, media_type: int) -> bytes:
        """A serialized UploadReturnFunction; `media_type` is a number of neonize's utils/enum.py, MediaType."""
        return self._bytes(self._go.Upload(uuid, data, len(data), media_type))

    def is_on_whatsapp(self, uuid: bytes, numbers: bytes) -> bytes:
        """A serialized IsOnWhatsAppReturnFunction; `numbers` are separated by spaces."""
        return self._bytes(self._go.IsOnWhatsApp(uuid, numbers, len(numbers)))

    def group_info(self, uuid: bytes, group: bytes) -> bytes:
        """A serialized GetGroupInfoReturnFunction."""
        return self._bytes(self._go.GetGroupInfo(uuid, group, len(group)))

    def lid_of(self, uuid: bytes, jid: bytes) -> bytes:
        """A serialized GetJIDFromStoreReturnFunction: the LID of a number, from the library's own table.

        Before pairing, and after `stop`, this ends the process (docs/internals/library.md#calls-and-panics).
        """
        return self._bytes(self._go.GetLIDFromPN(uuid, jid, len(jid)))

    def number_of(self, uuid: bytes, jid: bytes) -> bytes:
        """The inverse of lid_of()."""
        return self._bytes(self._go.GetPNFromLID(uuid, jid, len(jid)))

    def decrypt_poll_vote(self, uuid: bytes, event: bytes) -> bytes:
        """A serialized ReturnFunctionWithError; `event` is a Message event as the library handed it over."""
        return self._bytes(self._go.DecryptPollVote(uuid, event, len(event)))

    def pair_phone(self, uuid: bytes, params: bytes) -> bytes:
        """A serialized PairPhoneReturnFunction; a field that is missing in `params` ends the process."""
        return self._bytes(self._go.PairPhone(uuid, params, len(params)))

    def _text(self, address: int | None) -> str:
        if not address:
            return ""
        try:
            return string_at(address).decode(errors="replace")
        finally:
            self._go.FreeString(address)

    def _bytes(self, found: ctypes._Pointer[_Bytes]) -> bytes:
        if not found:
            return b""
        try:
            data, size = found.contents.data, found.contents.size
            return string_at(data, size) if data and size else b""
        finally:
            self._go.FreeBytesStruct(found)
