"""The problems of an account, in addition to its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wad.core.connection import State
from wad.core.problem import Problem
from wad.engine.port import Receipts
from wad.flow.accounts.account_files import AccountFiles
from wad.flow.accounts.account_state import AccountState
from wad.flow.accounts.card_keeper import CardKeeper
from wad.flow.accounts.notices import Notices
from wad.flow.accounts.worker_slot import WorkerSlot


class AccountProblems:
    """Lists the current problems of one account.

    `unsent` returns why nothing can be sent now, empty if messages can be sent.
    """

    def __init__(
        self,
        account: str,
        keeper: CardKeeper,
        notices: Notices,
        state: AccountState,
        slot: WorkerSlot,
        files: AccountFiles,
        unsent: Callable[[], str],
    ) -> None:
        self._account = account
        self._keeper = keeper
        self._notices = notices
        self._state = state
        self._slot = slot
        self._files = files
        self._unsent = unsent

    def current(self) -> list[Problem]:
        """The current problems."""
        return [
            *self._of_notices(),
            *self._of_account(),
            *self._files.quarantine.problems,
            *self._of_worker(),
        ]

    def _of_notices(self) -> Iterator[Problem]:
        for text in self._notices.current(self._files.quarantine.has_copy):
            yield self._problem("notice", text, subject=text)

    def _of_account(self) -> Iterator[Problem]:
        why = self._keeper.card.stopped_why
        if why and self._state.status.state is State.STOPPED:
            yield self._problem("stopped_unsure", f"it is stopped: {why}")
        if self._slot.storage_blocked:
            yield self._problem("held", self._slot.storage_blocked)
        if unsent := self._unsent():
            yield self._problem("unsent", unsent)
        if self._files.unsaved:
            text = f"rows of a damaged spool could not be saved yet: {self._files.unsaved}"
            yield self._problem("unsaved", text)
        if self._keeper.failure:
            yield self._problem("card_unwritten", self._keeper.failure)

    def _of_worker(self) -> Iterator[Problem]:
        worker = self._slot.worker
        if worker is None:
            return
        if worker.receipts is Receipts.EARLY:
            text = "receipts are early: a worker that is killed may lose the newest messages"
            yield self._problem("receipts_early", text)
        if worker.confinement is not None and worker.confinement.missing:
            yield self._problem("confined_in_part", worker.confinement.missing)
        if worker.dropped_output:
            yield self._problem("output_flood", worker.dropped_output)

    def _problem(self, code: str, text: str, *, subject: str = "") -> Problem:
        return Problem(code=code, text=text, account=self._account, subject=subject)
