"""What wad asks of an engine: one worker per account, which acts only while it is permitted to.

A worker appends what it receives to the account's spool by itself, committed, and only then says `Spooled`; everything
else it has to tell are the inputs of `core.connection`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from wad.core import connection
from wad.core.history import KnownMessage
from wad.core.jid import Jid
from wad.core.outgoing import GroupRole, Outgoing
from wad.core.send_result import SendResult
from wad.lib.procfs import Usage
from wad.state.account_dir import AccountDir
from wad.systemd.cgroups import Groups

if TYPE_CHECKING:  # a worker needs this module, and no event loop
    from asyncio import Future

    from wad.engine.baileys.translation import Carried
    from wad.lib.loops import Loops

FAULT: Final = 7
"""Exit status of a worker that met an error nobody handles; the daemon then logs the end of its output."""


class Receipts(StrEnum):
    """When WhatsApp is told that a message arrived: once it is on the disk, or before."""

    AFTER_STORE = "after-store"
    EARLY = "early"


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is in force.  `landlock`: its ABI, 0 for none; `why`: what the kernel said to what is not."""

    landlock: int
    seccomp: bool
    why: tuple[str, ...] = ()
    exposed: str = ""
    """A directory of the system that is read, and below which the accounts lie."""

    @property
    def missing(self) -> str:
        """What a worker should not be able to do and is, in a sentence; empty where nothing is missing."""
        found = []
        if not self.landlock:
            found.append("read and write the files of other accounts")
        elif self.exposed:
            found.append(f"read the files of other accounts, which lie below {self.exposed}")
        if not self.seccomp:
            found.append("signal other processes and change modes of files")
        if not found:
            return ""
        why = f" ({'; '.join(self.why)})" if self.why else ""
        return f"whoever takes over a worker can {' and '.join(found)}{why}"

    @property
    def told(self) -> str:
        """In a few words."""
        ports = ", any TCP port" if self.landlock < 4 else ""
        files = f"Landlock ABI {self.landlock}{ports}" if self.landlock else "no Landlock"
        return f"{files}, {'seccomp' if self.seccomp else 'no seccomp'}"


@dataclass(frozen=True, slots=True)
class LibraryLoaded:
    """The worker has loaded the library: the dear part of a start is over."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """The spool has rows up to `seq`."""

    seq: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the account is, as WhatsApp says after each login.

    `session`: a word for the keys that it is logged in with; whoever pairs it anew gets another one.
    """

    jid: str
    lid: str
    push_name: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class StorageBlocked:
    """What arrives cannot be stored and waits in the worker; an empty `why`: it was stored after all."""

    why: str


@dataclass(frozen=True, slots=True)
class FileDamaged:
    """A file of the account's home cannot be read; the worker ends and whoever owns the home sets it aside."""

    name: str
    why: str


Report = connection.Input | LibraryLoaded | Spooled | Identity | StorageBlocked | FileDamaged


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Times in seconds.  `proxy` is a URL or empty; `device_name` is what the phone shows under Linked devices.

    `media` is the directory of files to send (`wad.state.outgoing_files`).  `groups`: where worker processes get their
    control groups; None for nowhere.  `loops` keeps what runs beside each worker.  `accounts`: how many there are.
    """

    media: Path
    device_name: str = "wad"
    proxy: str = ""
    probe_every: float = 10.0
    probe_timeout: float = 20.0
    groups: Groups | None = None
    loops: Loops | None = None
    accounts: Callable[[], int] = lambda: 1


class Worker(Protocol):
    """One account's running engine."""

    @property
    def pid(self) -> int | None:
        """Its process, if it is one."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What its process uses; None where that is not known."""
        ...

    @property
    def receipts(self) -> Receipts | None:
        """Which guarantee is in force; None until it has said so."""
        ...

    @property
    def mute(self) -> str | None:
        """Why it cannot ask its phone for anything; empty when it can, None until it has said so."""
        ...

    @property
    def confinement(self) -> Confinement | None:
        """What the kernel holds it to; None until it has said so, or where it is no process."""
        ...

    @property
    def is_outdated(self) -> bool:
        """Whether what it may read of the system was replaced meanwhile: a fresh one could read the new files."""
        ...

    @property
    def flood(self) -> str:
        """How much of its output was dropped because there was too much of it; empty when nothing was lately."""
        ...

    @property
    def ended(self) -> Future[str]:
        """Done when the worker is gone for sure; one sentence says why."""
        ...

    def permit(self, until: float) -> None:
        """It may act until then, in seconds of the clock that it shares with us; then it ends by itself."""
        ...

    async def send(self, to: Jid, content: Outgoing, secret: bytes, asked_ms: int) -> SendResult:
        """Send one content, a file uploaded first; `secret` is saved with WhatsApp's id before a byte leaves.

        `asked_ms` is the time that recipients are told of an edit or a reaction.  Never raises for a failed send.
        """
        ...

    async def on_whatsapp(self, phones: Collection[str]) -> dict[str, bool]:
        """Which of these numbers have WhatsApp.  Raises EngineFailure, TimedOut."""
        ...

    async def standing(self, group: Jid) -> GroupRole:
        """Whether the account may write in this group.  Raises EngineFailure, TimedOut."""
        ...

    async def ask_history(self, oldest: KnownMessage, count: int) -> None:
        """Ask the account's phone for `count` messages before this one, the oldest that is known of its chat.

        The phone answers whenever it likes, with a part of the history (`HistoryReceived.asked`).

        Raises NotSupported, EngineFailure, TimedOut.
        """
        ...

    async def ask_messages(self, wanted: Sequence[KnownMessage]) -> None:
        """Ask the phone for these messages themselves; those that it has come like any others.  Raises the same."""
        ...

    async def log_out(self) -> None:
        """Tell WhatsApp to forget this device.  Raises EngineFailure, TimedOut."""
        ...

    async def stop(self, timeout: float) -> None:
        """End: disconnect, store what has arrived, stop; killed after `timeout` seconds.  Returns when it is gone."""
        ...


class Engine(Protocol):
    """Makes workers, and reads what they leave on the disk."""

    @property
    def receipts(self) -> Receipts | None:
        """Which guarantee every running worker gives; None while none has said so."""
        ...

    async def launch(
        self, home: AccountDir, report: Callable[[Report], None], permit: float
    ) -> Worker:
        """Start the account's worker, permitted for `permit` seconds.  Raises EngineFailure, AnotherDaemon."""
        ...

    def is_paired(self, home: AccountDir) -> bool:
        """Whether a session lies on the disk.  Raises Damaged."""
        ...

    def copy_session(self, home: AccountDir) -> bytes:
        """The session, whole.  No worker may have it.  Raises Damaged, Unavailable."""
        ...

    def put_session(self, home: AccountDir, session: bytes) -> None:
        """Put down what `copy_session` gave; no session may lie there.  Raises BadInput, StateUnwritable."""
        ...

    async def write_session(self, file: Path, session: Carried) -> None:
        """Make a session's file of what another library kept; there is no file yet, and nobody looks for it.

        Raises EngineFailure, StateUnwritable.
        """
        ...

    async def translate(self, kind: str, raw: bytes) -> bytes | None:
        """A row's bytes as an encoded event, with today's code; None where they carry nothing to keep.

        Raises BadInput (still not to be translated), NotSupported, EngineFailure.
        """
        ...

    def sent_as(self, home: AccountDir, secret: bytes, mark: str) -> str | None:
        """Under which WhatsApp id an attempt with this secret may have left; None: it did not.

        `mark`: with which session it was sent, as `Identity.session` has it; empty where that is not known.
        Only true once the account's worker is gone.  Raises Damaged, Unavailable, NotFound (that session is gone).
        """
        ...
