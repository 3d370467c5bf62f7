"""What one check has found."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """SKIPPED: it could not be looked at, or does not apply; the evidence says why."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIPPED = "SKIPPED"


class Finding(msgspec.Struct, frozen=True):
    """One line: what was checked, how it is, what shows it, and the commands that mend it."""

    id: str
    title: str
    outcome: Outcome
    evidence: str
    fix: tuple[str, ...] = ()


class DoctorCheck(msgspec.Struct, frozen=True):
    """A line's name; makes its findings."""

    id: str
    title: str

    def passed(self, evidence: str) -> Finding:
        """It is as it should be."""
        return Finding(self.id, self.title, Outcome.PASS, evidence)

    def warned(self, evidence: str, *fix: str) -> Finding:
        """It works, and somebody should look at it."""
        return Finding(self.id, self.title, Outcome.WARN, evidence, fix)

    def failed(self, evidence: str, *fix: str) -> Finding:
        """It does not work."""
        return Finding(self.id, self.title, Outcome.FAIL, evidence, fix)

    def skipped(self, why: str) -> Finding:
        """It was not looked at."""
        return Finding(self.id, self.title, Outcome.SKIPPED, why)
