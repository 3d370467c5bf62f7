"""The doctor's report: one verdict of all findings, with private data masked.

A report is often sent to others: phone numbers and addresses are masked, and the machine is named by a hash.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from wad.audit.doctor import rules_host, rules_live
from wad.audit.doctor.facts import InstallationFacts
from wad.audit.doctor.finding import Finding, Outcome
from wad.audit.keys import short_hash
from wad.core.masking import masked

CHECKS: Final = (
    rules_host.configuration, rules_host.service, rules_host.daemon, rules_host.port, rules_host.persistent,
    rules_host.writable, rules_host.space, rules_host.sessions, rules_live.accounts, rules_live.limits,
    rules_live.confinement, rules_live.health, rules_live.burst, rules_live.dashboard, rules_live.lock,
    rules_host.instance, rules_live.firestore, rules_live.restart, rules_live.duplicates,
)  # fmt: skip


class DoctorVerdict(StrEnum):
    """The verdict on the whole installation."""

    HEALTHY = "healthy"
    ATTENTION = "attention"
    UNHEALTHY = "unhealthy"


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """The report that `wadctl doctor --json` prints.  `counts`: findings by outcome; `at` in UTC."""

    verdict: DoctorVerdict
    ok: bool
    version: str
    instance: str
    at: str
    sanitised: bool
    counts: dict[str, int]
    checks: tuple[Finding, ...]


def examine(facts: InstallationFacts, now_ms: int, *, sanitised: bool) -> Examination:
    """Run every check."""
    findings = [check(facts) for check in CHECKS]
    instance = facts.configuration.text("instance.id")
    if sanitised:
        hide = _hider(facts.hostname, instance)
        findings, instance = [_hidden(each, hide) for each in findings], hide(instance)
    outcomes = Counter(each.outcome for each in findings)
    verdict = _verdict(outcomes)
    return Examination(
        verdict=verdict,
        ok=verdict is not DoctorVerdict.UNHEALTHY,
        version=facts.version,
        instance=instance,
        at=f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}",
        sanitised=sanitised,
        counts={str(outcome): outcomes[outcome] for outcome in Outcome},
        checks=tuple(findings),
    )


def _verdict(outcomes: Counter[Outcome]) -> DoctorVerdict:
    if outcomes[Outcome.FAIL]:
        return DoctorVerdict.UNHEALTHY
    return DoctorVerdict.ATTENTION if outcomes[Outcome.WARN] else DoctorVerdict.HEALTHY


# --- masking ----------------------------------------------------------------------------------------


def _hider(hostname: str, instance: str) -> Callable[[str], str]:
    names = sorted({name for name in (hostname, instance) if name and name != "localhost"}, key=len)
    patterns = [
        (re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])"), name) for name in names[::-1]
    ]

    def hide(text: str) -> str:
        for pattern, name in patterns:
            text = pattern.sub(f"host-{short_hash(name)}", text)
        return masked(text)

    return hide


def _hidden(finding: Finding, hide: Callable[[str], str]) -> Finding:
    return msgspec.structs.replace(
        finding, evidence=hide(finding.evidence), fix=tuple(map(hide, finding.fix))
    )


# --- Markdown ---------------------------------------------------------------------------------------


def markdown(examination: Examination) -> str:
    """The report as Markdown: a table, then the commands that fix each finding."""
    lines = [
        f"# wad {examination.version} on {examination.instance}: {examination.verdict}",
        "",
        f"{examination.at}, {_counted(examination.counts)}",
        "",
        "| | check | evidence |",
        "|---|---|---|",
        *(
            f"| {each.outcome} | {each.title} | {_cell(each.evidence)} |"
            for each in examination.checks
        ),
    ]
    for each in examination.checks:
        if each.fix:
            lines += [
                "",
                f"## {each.outcome}: {each.title}",
                "",
                "```sh",
                *map(_line, each.fix),
                "```",
            ]
    return "\n".join(lines)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _cell(text: str) -> str:
    return (
        _line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")
    )


def _line(text: str) -> str:
    return " ".join(text.split())
