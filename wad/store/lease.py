"""The lease record: the port, and the adapter for a single machine (a file).

A single machine needs no server's clock: the daemon that holds the state directory's lock (`account_dir.StateLock`) has
proven that every other holder in this file is dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import msgspec

from wad.core.decoding import decoding
from wad.core.errors import Conflict, InvalidData, StateUnwritable
from wad.core.lease import NEWEST_EPOCH, Record, Seen, Tenure, begun, ended
from wad.core.problem import Problem
from wad.core.untrusted import LAST_MS
from wad.lib.clock import Clock, SystemClock, stamp
from wad.lib.files import damaged_copies, read_file, set_aside, swap_file, write_file
from wad.lib.threads import ThreadPool
from wad.store.write_behind import WriteBehind

log = logging.getLogger(__name__)

_MAX_HISTORY: Final = 200  # holders in the history of one machine
_MAX_RECORD_BYTES: Final = 64 << 10
_MAX_HISTORY_BYTES: Final = 4 << 20
_MAX_TTL: Final = 366 * 86_400.0  # seconds
_SLOW_WRITE: Final = 15.0  # seconds after which a write is reported as slow


class LeaseRecord(Protocol):
    """The lease record port: one record with compare-and-set, and the history of its holders."""

    @property
    def where(self) -> str:
        """The location of the record, for messages."""
        ...

    async def read(self) -> Seen | None:
        """Read the record; None if there never was one.  Raises Unavailable."""
        ...

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the version `expected` (None: there is none); return the new version.  Atomic.

        A record with a new epoch begins a history entry, one without a holder ends it.  Raises Conflict if another
        writer was faster, Unavailable if it is not known whether the record was written.
        """
        ...

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders, in any order.  Raises Unavailable."""
        ...

    async def changed(self, timeout: float) -> None:
        """Return when the holder may have changed, or after `timeout` seconds without a renewal by the holder."""
        ...


@cache
def _thread() -> ThreadPool:
    """The lease's own thread: a renewal must neither block the event loop during a disk sync nor wait for other
    files."""
    return ThreadPool("lease", 1)


class FileLease:
    """The record in a file of the state directory, for the one daemon that holds the directory's lock.

    That lock proves that every earlier holder is dead, so a damaged record has nothing that is needed: it is set aside,
    and a new epoch begins, above the newest that the store has seen.
    """

    def __init__(self, path: Path, nonce: str, clock: Clock | None = None) -> None:
        self._path = path
        self._history = path.with_name(f"{path.stem}-history.jsonl")
        self._nonce = nonce
        self._clock = clock or SystemClock()
        self._copies: list[Path] = []
        self._copies = self._find_copies()
        self._ours: str | None = (
            None  # the version that this process wrote, while it holds the lease
        )
        self._written = 0  # writes that were awaited
        self._renewals = WriteBehind(_thread(), self._renew, self._clock)

    @property
    def where(self) -> str:
        """The path of the file."""
        return str(self._path)

    def problems(self) -> Sequence[Problem]:
        """Copies of damaged files, as long as they exist; a disk on which a renewal takes too long."""
        found = []
        if self._copies:
            names = ", ".join(map(str, self._copies))
            text = f"damaged lease files were set aside: {names}"
            figures = (len(self._copies),)
            found.append(
                Problem(code="set_aside", text=text, subject=str(self._path), figures=figures)
            )
        if (behind := self._renewals.behind_for) > _SLOW_WRITE:
            text = f"a renewal of the lease has not been written to the disk for {behind:.0f} s"
            found.append(Problem(code="disk_slow", text=text, figures=(behind,)))
        return found

    async def read(self) -> Seen | None:
        """Read the record; a holder other than this process is dead, since we hold the directory's lock."""
        return await _thread().run(self._read)

    def _read(self) -> Seen | None:
        try:
            data = read_file(self._path, _MAX_RECORD_BYTES)
            with decoding(str(self._path)):
                record = _checked(msgspec.json.decode(data, type=Record))
        except FileNotFoundError:
            return None
        except InvalidData as error:
            self._set_aside(self._path, str(error))
            return None
        except OSError as error:
            raise StateUnwritable(f"cannot read {self._path}: {error.strerror}") from error
        return Seen(record, 0.0, _version(record), dead=record.nonce != self._nonce)

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the file by rename.

        A renewal of the version that this process wrote last returns at once and is written in the background: the
        directory's lock proves that no other process can hold the lease, so a busy disk must not cost it.  It raises
        the error of the renewal before.
        """
        version = _version(record)
        renews = record.holder != "" and version == expected
        if renews and version == self._ours:
            self._renewals.put(record)
            return version
        self._ours = None
        self._renewals.forget()
        self._written += 1
        number = self._written
        if renews:
            await _thread().run(self._renew, record)
        else:
            await _thread().run(self._replace, record, expected)
        if record.holder and number == self._written:
            self._ours = version
        return version

    def _replace(self, record: Record, expected: str | None) -> None:
        self._compare(expected)
        write_file(self._path, _encoded(record))
        self._remember(record)
        self._copies = self._find_copies()

    def _renew(self, record: Record) -> None:
        self._compare(_version(record))
        # Not synced: after a power failure every holder is dead, whatever the file contains.
        swap_file(self._path, _encoded(record))
        self._copies = self._find_copies()

    def _compare(self, expected: str | None) -> None:
        seen = self._read()
        if (seen.version if seen is not None else None) != expected:
            raise Conflict("the lease file was changed by another process")

    def _remember(self, record: Record) -> None:
        tenures, damage = self._read_history()
        if damage:
            self._set_aside(self._history, damage)
        lines = [
            msgspec.json.encode(each) + b"\n"
            for each in remembered(tenures[-_MAX_HISTORY:], record)
        ]
        if lines:  # an empty file counts as damaged
            write_file(self._history, b"".join(lines))

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders; damaged lines are left out."""
        found, _damage = await _thread().run(self._read_history)
        return found[-limit:]

    def _read_history(self) -> tuple[list[Tenure], str]:
        """The readable entries of the history, and the first error of the others; empty if there is none."""
        try:
            lines = read_file(self._history, _MAX_HISTORY_BYTES).splitlines()
            if not lines:
                return [], f"{self._history} is empty"
        except FileNotFoundError:
            return [], ""
        except InvalidData as error:
            return [], str(error)
        except OSError as error:
            raise StateUnwritable(f"cannot read {self._history}: {error.strerror}") from error
        found, damage = [], ""
        for number, line in enumerate(lines, 1):
            try:
                with decoding(f"{self._history}:{number}"):
                    found.append(_checked_tenure(msgspec.json.decode(line, type=Tenure)))
            except InvalidData as error:
                damage = damage or str(error)
        return found, damage

    def _set_aside(self, file: Path, why: str) -> None:
        aside = set_aside(file, stamp(self._clock))
        self._copies = self._find_copies()
        log.error("%s; it was set aside as %s", why, aside.name)

    def _find_copies(self) -> list[Path]:
        try:
            return [*damaged_copies(self._path), *damaged_copies(self._history)]
        except (
            OSError
        ) as error:  # for example no file descriptor is left: no reason to lose the lease
            log.warning("cannot list damaged copies of lease files: %s", error)
            return self._copies

    async def changed(self, timeout: float) -> None:
        """Wait: no other process writes the file."""
        await asyncio.sleep(timeout)


def _checked(record: Record) -> Record:
    """The record; raises InvalidData if its numbers are out of range."""
    if not 0 < record.ttl <= _MAX_TTL:
        raise InvalidData(f"a ttl of {record.ttl:g} s is out of range")
    _check_numbers(record.epoch, record.acquired_ms, record.renewed_ms)
    return record


def _checked_tenure(tenure: Tenure) -> Tenure:
    """The history entry; raises InvalidData if its numbers are out of range."""
    _check_numbers(tenure.epoch, tenure.began_ms, tenure.ended_ms)
    return tenure


def _check_numbers(epoch: int, *times: int) -> None:
    if not 0 <= epoch <= NEWEST_EPOCH:
        raise InvalidData(f"the epoch {epoch} is out of range")
    for time in times:
        if not 0 <= time <= LAST_MS:
            raise InvalidData(f"the time {time} is out of range")


def remembered(tenures: Sequence[Tenure], record: Record) -> list[Tenure]:
    """The history after `record` was written, oldest first."""
    if record.holder:
        return [*tenures[1 - _MAX_HISTORY :], begun(record)]
    return [
        *(tenure for tenure in tenures if tenure.epoch != record.epoch),
        *(ended(tenure, record) for tenure in tenures if tenure.epoch == record.epoch),
    ]


def _version(record: Record) -> str:
    """The version of a record.  Renewals do not change it: only one process writes them, and the file may be behind."""
    return f"{record.epoch}:{record.nonce}"


def _encoded(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record)) + b"\n"
