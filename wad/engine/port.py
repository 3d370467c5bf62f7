"""The port `Engine`: one worker per account, which acts only while it has permission.

A worker itself appends received events to the account's spool, committed, and only then reports `Spooled`; all its
other reports are the inputs of `core.connection`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
"""Exit status of a worker after an unhandled error; the daemon then logs the end of its output."""


class Receipts(StrEnum):
    """When WhatsApp receives a receipt: once the message is on the disk, or before."""

    AFTER_STORE = "after-store"
    EARLY = "early"


@dataclass(frozen=True, slots=True)
class Confinement:
    """The confinement in force.  `landlock`: its ABI, 0 for none; `why`: the kernel's errors for the missing parts."""

    landlock: int
    seccomp: bool
    why: tuple[str, ...] = ()
    exposed: str = ""
    """A readable directory of the system that contains the account directories."""

    @property
    def missing(self) -> str:
        """What a worker can do although it should not, in a sentence; empty if the confinement is complete."""
        found = []
        if not self.landlock:
            found.append("read and write the files of other accounts")
        elif self.exposed:
            found.append(f"read the files of other accounts, which are below {self.exposed}")
        if not self.seccomp:
            found.append("signal other processes and change modes of files")
        if not found:
            return ""
        why = f" ({'; '.join(self.why)})" if self.why else ""
        return f"an attacker who takes over a worker can {' and '.join(found)}{why}"

    @property
    def summary(self) -> str:
        """A short description."""
        ports = ", any TCP port" if self.landlock < 4 else ""
        files = f"Landlock ABI {self.landlock}{ports}" if self.landlock else "no Landlock"
        return f"{files}, {'seccomp' if self.seccomp else 'no seccomp'}"


@dataclass(frozen=True, slots=True)
class LibraryLoaded:
    """The worker has loaded the library: the expensive part of a start is over."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """The spool has rows up to `seq`."""

    seq: int


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of the account, as WhatsApp reports it after each login.

    `session`: a fingerprint of the session's keys; pairing again gives another one.
    """

    jid: str
    lid: str
    push_name: str
    session: str = ""


@dataclass(frozen=True, slots=True)
class StorageBlocked:
    """Events that arrive cannot be stored and wait in the worker; an empty `why`: they were stored after all."""

    why: str


@dataclass(frozen=True, slots=True)
class FileDamaged:
    """A file in the account directory cannot be read; the worker ends and the daemon quarantines the file."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class FoundNumber:
    """The addresses under which WhatsApp knows a phone number: at least one.

    `pn` differs from the number that was asked for if WhatsApp writes it in another way.
    """

    lid: Jid | None
    pn: Jid | None


Report = connection.Input | LibraryLoaded | Spooled | Identity | StorageBlocked | FileDamaged


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Times in seconds.  `proxy` is a URL or empty; `device_name` is shown by the phone under Linked devices.

    `media` is the directory of files to send (`wad.state.outgoing_files`).  `groups`: the control groups for worker
    processes; None for none.  `loops` supervises the tasks of each worker.  `accounts`: the number of accounts.
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
        """Its process id, if it is a process."""
        ...

    @property
    def usage(self) -> Usage | None:
        """What its process uses; None if unknown."""
        ...

    @property
    def receipts(self) -> Receipts | None:
        """The guarantee in force; None until the worker has reported it."""
        ...

    @property
    def phone_requests_unsupported(self) -> str | None:
        """Why it cannot send requests to its phone; empty if it can, None until it has reported that."""
        ...

    @property
    def confinement(self) -> Confinement | None:
        """Its confinement by the kernel; None until it has reported it, or if it is not a process."""
        ...

    @property
    def is_outdated(self) -> bool:
        """Whether system files that it may read were replaced meanwhile: a new worker could read the new files."""
        ...

    @property
    def dropped_output(self) -> str:
        """How much of its output was dropped because it was too much; empty if none was dropped recently."""
        ...

    @property
    def ended(self) -> Future[str]:
        """Done when the worker has certainly ended; one sentence says why."""
        ...

    def permit(self, until: float) -> None:
        """Permit it to act until this time, in seconds of the shared clock; then it ends by itself."""
        ...

    async def send(self, to: Jid, content: Outgoing, secret: bytes, asked_ms: int) -> SendResult:
        """Send one content, a file uploaded first; `secret` is saved with WhatsApp's id before anything is sent.

        `asked_ms` is the time that recipients see for an edit or a reaction.  Never raises for a failed send.
        """
        ...

    async def find_number(self, phone: str) -> FoundNumber | None:
        """What WhatsApp knows this phone number (digits) as; None if it is not there.  Raises EngineFailure, TimedOut.

        Often asked, WhatsApp refuses to answer, and may ban the account.
        """
        ...

    async def group_role(self, group: Jid) -> GroupRole:
        """The account's role in this group, which decides whether it may write.  Raises EngineFailure, TimedOut."""
        ...

    async def ask_history(self, oldest: KnownMessage, count: int) -> None:
        """Request `count` messages before this one, the oldest known of its chat, from the account's phone.

        The phone answers at any later time, with a history chunk (`HistoryReceived.asked`).

        Raises NotSupported, EngineFailure, TimedOut.
        """
        ...

    async def ask_messages(self, wanted: Sequence[KnownMessage]) -> None:
        """Request these messages from the phone; those that it has arrive like any others.  Raises the same."""
        ...

    async def pairing_code(self, phone: str) -> str:
        """Request a code (`XXXX-XXXX`) that links this device when it is entered on the phone with this number.

        `phone`: digits.  Valid only while QR codes are shown.  Raises EngineFailure, TimedOut.
        """
        ...

    async def log_out(self) -> None:
        """Remove this device from the account at WhatsApp.  Raises EngineFailure, TimedOut."""
        ...

    async def stop(self, timeout: float) -> None:
        """Disconnect, store what has arrived, end; killed after `timeout` seconds.  Returns when it has ended."""
        ...


class Engine(Protocol):
    """Starts workers, and reads the files that they leave."""

    @property
    def receipts(self) -> Receipts | None:
        """The guarantee that every running worker gives; None while none has reported it."""
        ...

    async def launch(
        self, account_dir: AccountDir, report: Callable[[Report], None], permit: float
    ) -> Worker:
        """Start the account's worker, with permission for `permit` seconds.  Raises EngineFailure, AnotherDaemon."""
        ...

    def is_paired(self, account_dir: AccountDir) -> bool:
        """Whether there is a session on the disk.  Raises Damaged."""
        ...

    def copy_session(self, account_dir: AccountDir) -> bytes:
        """The whole session.  No worker may have it open.  Raises Damaged, Unavailable."""
        ...

    def put_session(self, account_dir: AccountDir, session: bytes) -> None:
        """Write a session from `copy_session`; there must be none yet.  Raises BadInput, StateUnwritable."""
        ...

    async def write_session(self, file: Path, session: Carried) -> None:
        """Write a session converted from another library; the file must not exist, and nothing may use it yet.

        Raises EngineFailure, StateUnwritable.
        """
        ...

    async def translate(self, kind: str, raw: bytes) -> bytes | None:
        """Translate a row's bytes into an encoded event, with the current code; None if there is nothing to store.

        Raises BadInput (still untranslatable), NotSupported, EngineFailure.
        """
        ...

    def sent_as(self, account_dir: AccountDir, secret: bytes, mark: str) -> str | None:
        """The WhatsApp id under which an attempt with this secret may have been sent; None: it was not sent.

        `mark`: the session that sent it, as in `Identity.session`; empty if unknown.  Valid only once the account's
        worker has ended.  Raises Damaged, Unavailable, NotFound (that session is gone).
        """
        ...
