"""The lease's record: the port, and the adapter for one machine (a file).

One machine needs no server's clock: the daemon that holds the state directory's lock (`home.StateLock`) has proven that
every other holder written in this file is dead.
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
from wad.core.lease import Record, Seen, Tenure, begun, ended
from wad.core.problem import Problem
from wad.core.untrusted import LAST_MS
from wad.lib.clock import Clock, SystemClock, stamp
from wad.lib.files import damaged_copies, read_file, set_aside, swap_file, write_file
from wad.lib.threads import ThreadPool
from wad.store.write_behind import WriteBehind

log = logging.getLogger(__name__)

_KEPT: Final = 200  # holders that the history of one machine remembers
_LARGEST: Final = 64 << 10  # bytes of the record
_LARGEST_HISTORY: Final = 4 << 20
_LAST_EPOCH: Final = 2**53
_LONGEST: Final = 366 * 86_400.0  # seconds of a ttl
_SLOW: Final = 15.0  # seconds of a write that are worth a word


class LeaseRecord(Protocol):
    """One record with compare-and-set, and the history of who held it."""

    @property
    def where(self) -> str:
        """Where the record lies, for people."""
        ...

    async def read(self) -> Seen | None:
        """The record as it is now; None when there never was one.  Raises Unavailable."""
        ...

    async def write(self, record: Record, expected: str | None) -> str:
        """Replace the version `expected` (None: there is none); the new version.  Atomic.

        A record with a new epoch begins an entry of the history, one without a holder ends it.  Raises Conflict when
        somebody else wrote since, Unavailable when it is not known whether it was written.
        """
        ...

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders, in any order.  Raises Unavailable."""
        ...

    async def changed(self, timeout: float) -> None:
        """Return when another may hold it, or after `timeout` seconds without a sign of its holder."""
        ...


@cache
def _thread() -> ThreadPool:
    """Its own: a renewal must neither hold up the event loop while the disk syncs, nor wait for anybody's files."""
    return ThreadPool("lease", 1)


class FileLease:
    """The record in a file of the state directory, for the one daemon that holds the directory's lock.

    That lock proves that every earlier holder is dead, so a record that cannot be read says nothing that is needed: it
    is set aside, and a new epoch begins, above the newest that the store has seen.
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
        self._written = 0  # writes that were waited for
        self._renewals = WriteBehind(_thread(), self._renew, self._clock)

    @property
    def where(self) -> str:
        """The file."""
        return str(self._path)

    def problems(self) -> Sequence[Problem]:
        """The copies of damaged files, as long as they lie there; a disk that takes no renewal."""
        found = []
        if self._copies:
            names = ", ".join(map(str, self._copies))
            text = f"what was written of the lease could not be read, and was set aside: {names}"
            figures = (len(self._copies),)
            found.append(
                Problem(code="set_aside", text=text, subject=str(self._path), figures=figures)
            )
        if (behind := self._renewals.behind_for) > _SLOW:
            text = f"the disk has not taken a renewal of the lease for {behind:.0f} s"
            found.append(Problem(code="disk_slow", text=text, figures=(behind,)))
        return found

    async def read(self) -> Seen | None:
        """The record; a holder that is not this process is dead, since we hold the directory's lock."""
        return await _thread().run(self._read)

    def _read(self) -> Seen | None:
        try:
            data = read_file(self._path, _LARGEST)
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

        A renewal of what this process wrote last is answered at once and written behind: the directory's lock proves
        that nobody else can hold the lease, so no disk, however busy, may cost it.  It raises what the renewal before
        failed of.
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
        # Not synced: after a power cut every holder is dead, whatever the file says.
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
        lines = [msgspec.json.encode(each) + b"\n" for each in remembered(tenures[-_KEPT:], record)]
        write_file(self._history, b"".join(lines))

    async def history(self, limit: int) -> list[Tenure]:
        """The latest holders; a line that cannot be read is left out."""
        found, _damage = await _thread().run(self._read_history)
        return found[-limit:]

    def _read_history(self) -> tuple[list[Tenure], str]:
        """What can be read of it, and what is wrong with the rest."""
        try:
            lines = read_file(self._history, _LARGEST_HISTORY).splitlines()
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
                    found.append(_checked_past(msgspec.json.decode(line, type=Tenure)))
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
        except OSError as error:  # no handle is left, say: no reason to lose the lease
            log.warning("cannot list what was set aside of the lease: %s", error)
            return self._copies

    async def changed(self, timeout: float) -> None:
        """Nobody else writes here: wait."""
        await asyncio.sleep(timeout)


def _checked(record: Record) -> Record:
    """Raise InvalidData where its numbers are out of range."""
    if not 0 < record.ttl <= _LONGEST:
        raise InvalidData(f"a ttl of {record.ttl:g} s is out of range")
    _check_numbers(record.epoch, record.acquired_ms, record.renewed_ms)
    return record


def _checked_past(tenure: Tenure) -> Tenure:
    """The same of a line of the history."""
    _check_numbers(tenure.epoch, tenure.began_ms, tenure.ended_ms)
    return tenure


def _check_numbers(epoch: int, *times: int) -> None:
    if not 0 <= epoch <= _LAST_EPOCH:
        raise InvalidData(f"the epoch {epoch} is out of range")
    for time in times:
        if not 0 <= time <= LAST_MS:
            raise InvalidData(f"the time {time} is out of range")


def remembered(tenures: Sequence[Tenure], record: Record) -> list[Tenure]:
    """The history after `record` was written, the latest at the end."""
    if record.holder:
        return [*tenures[1 - _KEPT :], begun(record)]
    return [
        *(tenure for tenure in tenures if tenure.epoch != record.epoch),
        *(ended(tenure, record) for tenure in tenures if tenure.epoch == record.epoch),
    ]


def _version(record: Record) -> str:
    """Renewals make no new one: only one process writes them, and the file may be behind it."""
    return f"{record.epoch}:{record.nonce}"


def _encoded(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record)) + b"\n"
