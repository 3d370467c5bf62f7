"""The quarantine of an account: spool rows that are not recorded, copies of damaged files, and gaps of the spool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from wad.core.errors import BadInput, NotFound, NotSupported
from wad.core.problem import Problem
from wad.core.quarantine import ItemKind, Quarantined
from wad.core.spool_gap import Gap
from wad.lib.protobuf_wire import fields
from wad.state import damaged_copies
from wad.state.damaged_copies import DamagedCopy
from wad.state.spool import QuarantinedRow, SpoolRow

if TYPE_CHECKING:
    from wad.engine import Engine
    from wad.flow.accounts.card_keeper import CardKeeper
    from wad.flow.inbound.pipeline import Inbound
    from wad.state.account_dir import AccountDir

log = logging.getLogger(__name__)

_LISTED: Final = 1000
"""The number of listed rows, the newest ones; the count includes all."""
_NAMED: Final = 3  # copies


class AccountQuarantine:
    """`wad.core.quarantine.Source` of one account.

    An item's id is ACCOUNT/row/NUMBER, ACCOUNT/file/NAME or ACCOUNT/gap.
    """

    def __init__(
        self, account_dir: AccountDir, engine: Engine, inbound: Inbound, keeper: CardKeeper
    ) -> None:
        self._account_dir = account_dir
        self._engine = engine
        self._inbound = inbound
        self._keeper = keeper
        self.copies: list[DamagedCopy] = []
        """The copies of damaged files, from the last listing."""
        self._unlisted = ""

    async def list_copies(self) -> None:
        """List the current copies: an operator may have moved some."""
        try:
            self.copies = await asyncio.to_thread(damaged_copies.copies, self._account_dir.path)
            self._unlisted = ""
        except OSError as error:
            if not self._unlisted:
                log.warning(
                    "cannot list the copies of damaged files: %s",
                    error,
                    extra={"account": self._account_dir.id},
                )
            self._unlisted = error.strerror or str(error)

    @property
    def has_copies(self) -> bool:
        """Whether the last listing found copies or failed."""
        return bool(self.copies or self._unlisted)

    def has_copy(self, name: str) -> bool:
        """Whether the last listing contained a copy with this name."""
        return any(copy.path.name == name for copy in self.copies)

    @property
    def count(self) -> int:
        """The number of items."""
        gaps = 0 if self._keeper.card.gap is None else 1
        return self._inbound.untranslated + self._inbound.set_aside + len(self.copies) + gaps

    @property
    def problems(self) -> list[Problem]:
        """The problems to show until the quarantine is empty."""
        found = []
        if number := self._inbound.set_aside:
            text = f"{number} received rows could not be recorded: wadctl quarantine list"
            found.append(self._problem("quarantine", text, number))
        if number := self._inbound.untranslated:
            text = f"{number} received rows could not be translated: wadctl quarantine list"
            found.append(self._problem("untranslated", text, number))
        if (gap := self._keeper.card.gap) is not None:
            text = f"received messages may be missing; spool.db: {gap.why}"
            account, since = self._account_dir.id, gap.since_ms
            found.append(Problem(code="inbox_gap", account=account, text=text, since_ms=since))
        if self.copies:
            names = ", ".join(copy.path.name for copy in self.copies[-_NAMED:])
            more = len(self.copies) - _NAMED
            text = (
                f"copies of files were set aside: {names}{f' and {more} more' if more > 0 else ''}"
            )
            found.append(self._problem("set_aside", text, len(self.copies)))
        if self._unlisted:
            text = f"copies of damaged files cannot be listed: {self._unlisted}"
            found.append(Problem(code="copies_unknown", account=self._account_dir.id, text=text))
        return found

    def _problem(self, code: str, text: str, number: int) -> Problem:
        return Problem(code=code, account=self._account_dir.id, text=text, figures=(number,))

    async def items(self) -> Sequence[Quarantined]:
        """All copies, and the newest rows."""
        await self.list_copies()
        return [
            *map(self._of_row, await self._inbound.quarantined(_LISTED)),
            *map(self._of_copy, self.copies),
            *self._gaps(),
        ]

    @property
    def _gap_id(self) -> str:
        return f"{self._account_dir.id}/gap"

    def _gaps(self) -> Iterator[Quarantined]:
        if (gap := self._keeper.card.gap) is not None:
            yield Quarantined(
                id=self._gap_id,
                kind=ItemKind.GAP,
                account=self._account_dir.id,
                name=self._account_dir.spool_db.name,
                reason=f"received messages may be missing: {gap.why}",
                since_ms=gap.since_ms,
            )

    def _of_row(self, row: QuarantinedRow) -> Quarantined:
        return Quarantined(
            id=f"{self._account_dir.id}/row/{row.seq}",
            kind=ItemKind.EVENT,
            account=self._account_dir.id,
            name=f"row {row.seq}: {row.kind} {row.wa_id}".rstrip(),
            reason=row.reason,
            since_ms=row.received_ms,
            size=row.size,
        )

    def _of_copy(self, copy: DamagedCopy) -> Quarantined:
        why = (
            "all its rows were saved"
            if copy.saved
            else "it may contain rows that exist nowhere else"
        )
        if copy.is_session:
            why = "it contains a session's keys; wad never deletes it"
        return Quarantined(
            id=f"{self._account_dir.id}/file/{copy.path.name}",
            kind=ItemKind.FILE,
            account=self._account_dir.id,
            name=str(copy.path),
            reason=why,
            since_ms=copy.since_ms,
            size=copy.size,
        )

    async def show(self, ident: str) -> str:
        """The description of an item; for a row also the fields of its protobuf, with sizes.  Raises NotFound."""
        if (gap := self._gap(ident)) is not None:
            return f"{self._account_dir.spool_db}, {_day(gap.since_ms)}: {gap.why}"
        if (copy := await self._copy(ident)) is not None:
            return f"{copy.path}, {copy.size} bytes, {_day(copy.since_ms)}"
        row = await self._row(ident)
        lines = [f"{row.kind} {row.wa_id}".rstrip(), f"received {_day(row.received_ms)}"]
        lines.append(f"translation: {'none' if row.event is None else f'{len(row.event)} bytes'}")
        return "\n".join([*lines, *_shape(row.raw)])

    async def retry(self, ident: str) -> str:
        """Translate a row with the current code, and record it.  Raises NotFound, BadInput, EngineFailure."""
        if self._gap(ident) is not None:
            raise BadInput("missing rows cannot be retried", hint="check the messages on the phone")
        if await self._copy(ident) is not None:
            raise BadInput("a file cannot be retried", hint="its readable rows have been saved")
        row = await self._row(ident)
        event = await self._event(row)
        if event is None:
            await self._inbound.drop(row.seq)
            return "it has no content to store"
        new = await self._inbound.record_again(row, event)
        return f"recorded, with {new} new messages"

    async def _event(self, row: SpoolRow) -> bytes | None:
        try:
            if row.raw:
                return await self._engine.translate(row.kind, row.raw)
        except NotSupported:
            if row.event is None:
                raise
        if row.event is None:
            raise BadInput("the row has no data to translate")
        return row.event

    async def drop(self, ident: str) -> None:
        """Delete it permanently.  Raises NotFound, and Conflict for a session."""
        if self._gap(ident) is not None:
            await self._keeper.change(gap=None)
            return
        if (copy := await self._copy(ident)) is not None:
            await asyncio.to_thread(damaged_copies.remove, copy)
            await self.list_copies()
            return
        row = await self._row(ident)
        if not await self._inbound.drop(row.seq):
            raise NotFound(f"{ident} is not in quarantine any more")

    def _gap(self, ident: str) -> Gap | None:
        return self._keeper.card.gap if ident == self._gap_id else None

    async def _copy(self, ident: str) -> DamagedCopy | None:
        name = ident.removeprefix(f"{self._account_dir.id}/file/")
        await self.list_copies()
        return next((copy for copy in self.copies if copy.path.name == name), None)

    async def _row(self, ident: str) -> SpoolRow:
        number = ident.removeprefix(f"{self._account_dir.id}/row/")
        row = (
            await self._inbound.row(int(number))
            if number.isdecimal() and len(number) < 19
            else None
        )
        if row is None:
            raise NotFound(f"item not found in quarantine: {ident!r}")
        return row


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _shape(raw: bytes) -> list[str]:
    """The fields of a protobuf by number and size, without their content."""
    lines = [f"as received: {len(raw)} bytes"]
    try:
        for found in fields(raw):
            what = "a number" if found.inside is None else f"{found.end - found.inside} bytes"
            lines.append(f"  field {found.number}: {what}")
            if len(lines) > 40:
                return [*lines, "  ..."]
    except ValueError as error:
        lines.append(f"  then {error}")
    return lines
