"""The requests to a worker process, and their results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from wad.core import send_result
from wad.core.errors import (
    Damaged,
    EngineFailure,
    InvalidData,
    NotFound,
    TimedOut,
    Unavailable,
    WadError,
)
from wad.core.history import KnownMessage
from wad.core.jid import Jid
from wad.core.outbox import NotSent, Refused, Sent, Unknown
from wad.core.outgoing import Attachment, GroupRole, Outgoing, encode
from wad.core.send_result import SendResult
from wad.engine import notices
from wad.engine import session_db as session
from wad.engine.compose import MEDIA_TYPE, Envelope, Upload
from wad.engine.port import FoundNumber
from wad.engine.supervision import SupervisedWorker, readers

_SEND_TIMEOUT: Final = 240.0
"""Seconds: more than three of the library's own timeouts of 75 s (docs/internals/library.md#calls-and-panics)."""
_UPLOAD_TIMEOUT: Final = 600.0  # 64 MiB at a megabit a second
_CALL_TIMEOUT: Final = 90.0
_EXPECTED_ENDS: Final = frozenset({0, 3, 4, 5, 6})
"""Exit codes of a worker that ends by itself: on request, with a reason, without permission, without the daemon, for a
damaged file."""


class NeonizeWorker(SupervisedWorker):
    """A worker process that runs neonize."""

    async def send(self, to: Jid, content: Outgoing, secret: bytes, asked_ms: int) -> SendResult:
        """Send a content; if the worker dies or hangs, its traces in the session's database give the result."""
        if self._process.ended.done():
            return NotSent("the worker is gone", unrelated=True)  # this message is not the cause
        upload = None
        if isinstance(content, Attachment):
            found = await self._upload(content)
            if not isinstance(found, Upload):
                return found
            upload = found
        envelope = Envelope(secret, self._me, asked_ms, upload, self._lid).to_wire()
        try:
            answer = await self._call(
                "send", str(to), encode(content), envelope, timeout=_SEND_TIMEOUT
            )
        except WadError as error:
            return await self._result_by_traces(secret, error)
        try:
            outcome = notices.sent(answer)
        except InvalidData as error:
            return await self._result_by_traces(secret, self._refuse_answer(error))
        return (
            outcome if isinstance(outcome, Sent) else await self._result_by_traces(secret, outcome)
        )

    def _refuse_answer(self, error: InvalidData) -> EngineFailure:
        """Replace the worker after an invalid answer; returns the error for the caller."""
        why = f"the worker sent an invalid frame: {error}"
        self._break_off(why)
        return EngineFailure(why)

    async def _result_by_traces(self, secret: bytes, why: WadError | str) -> SendResult:
        """The result by the message's traces: the library refused it, or the worker died, failed or did not answer."""
        if self._frames.broken or self._process.ended.done():
            await asyncio.shield(self.ended)
        try:
            found = await readers().run(session.sent_as, self._account_dir.session_db, secret)
        except NotFound as gone:
            # Only the library's error text may still prove that nothing was sent.
            return (
                send_result.classify(why, "")
                if isinstance(why, str)
                else Unknown("", f"{why}; {gone}")
            )
        except WadError as unreadable:
            return Unknown("", f"{why}; {unreadable}")
        if isinstance(why, str):
            return send_result.classify(why, found)
        if isinstance(why, TimedOut):  # it may still be sent: a missing trace proves nothing
            return Unknown(found or "", str(why))
        if found is not None:
            return Unknown(found, str(why))
        return self._not_sent(why)

    async def _upload(self, content: Attachment) -> Upload | NotSent | Refused:
        """The file's address at WhatsApp; or why nothing was sent."""
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
            self._reason = str(error)
            self._process.kill()
            await asyncio.shield(self.ended)
            return NotSent(str(error), died=True)
        except WadError as error:
            return self._not_sent(error)

    def _not_sent(self, why: WadError) -> NotSent:
        died = self._crashed()
        surroundings = self._process.ended.done() or isinstance(why, Unavailable)
        unrelated = surroundings or send_result.is_unrelated(str(why))
        return NotSent(self.ended.result() if died else str(why), unrelated, died)

    def _crashed(self) -> bool:
        """Whether it crashed: it was not killed, and did not end by itself with a reason."""
        if not self.ended.done() or self._stop_requested:
            return False
        has_reason = self._reason and not self._frames.broken
        return not has_reason and self._process.ended.result() not in _EXPECTED_ENDS

    async def find_number(self, phone: str) -> FoundNumber | None:
        """What WhatsApp knows this phone number as."""
        answer = await self._call("find_number", phone, timeout=_CALL_TIMEOUT)
        try:
            return notices.found_number(answer)
        except InvalidData as error:
            raise self._refuse_answer(error) from error

    async def group_role(self, group: Jid) -> GroupRole:
        """The account's role in a group."""
        owner = await readers().run(session.identity, self._account_dir.session_db)
        me = [Jid.parse(address).user for address in (owner.jid, owner.lid) if address]
        answer = await self._call("group_role", str(group), me, timeout=_CALL_TIMEOUT)
        try:
            found: GroupRole = notices.convert(answer, GroupRole, "the answer to 'group_role'")
        except InvalidData as error:
            raise self._refuse_answer(error) from error
        return found

    async def ask_history(self, oldest: KnownMessage, count: int) -> None:
        """Request earlier messages from the phone."""
        await self._call("history", self._me, oldest.to_wire(), count, timeout=_CALL_TIMEOUT)

    async def ask_messages(self, wanted: Sequence[KnownMessage]) -> None:
        """Request these messages from the phone."""
        shapes = [one.to_wire() for one in wanted]
        await self._call("messages", self._me, shapes, timeout=_CALL_TIMEOUT)

    async def pairing_code(self, phone: str) -> str:
        """Request a code to enter on this phone."""
        answer = await self._call("pairing_code", phone, timeout=_CALL_TIMEOUT)
        try:
            found: str = notices.convert(
                answer, notices.EightCharacters, "the answer to 'pairing_code'"
            )
        except InvalidData as error:
            raise self._refuse_answer(error) from error
        return found

    async def log_out(self) -> None:
        """Remove this device from the account at WhatsApp."""
        await self._call("log_out", timeout=_CALL_TIMEOUT)
