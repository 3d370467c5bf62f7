"""The result of one check."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """The outcome of a check.  SKIPPED: it was not possible or does not apply; the evidence has the reason."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


class Finding(msgspec.Struct, frozen=True):
    """A finding: what was checked, the outcome, the evidence, and the commands that fix it."""

    id: str
    title: str
    outcome: Outcome
    evidence: str
    fix: tuple[str, ...] = ()


class DoctorCheck(msgspec.Struct, frozen=True):
    """A check's id and title; builds its findings."""

    id: str
    title: str

    def passed(self, evidence: str) -> Finding:
        """The check passed."""
        return Finding(self.id, self.title, Outcome.PASS, evidence)

    def warned(self, evidence: str, *fix: str) -> Finding:
        """It works but needs attention."""
        return Finding(self.id, self.title, Outcome.WARN, evidence, fix)

    def failed(self, evidence: str, *fix: str) -> Finding:
        """The check failed."""
        return Finding(self.id, self.title, Outcome.FAIL, evidence, fix)

    def skipped(self, reason: str) -> Finding:
        """The check was not made."""
        return Finding(self.id, self.title, Outcome.SKIPPED, reason)
