"""One run from its seed to its result."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.audit import Findings, audit, together
from tests.chaos.faults import Troublemaker
from tests.chaos.scenario import Fault, Scenario
from tests.chaos.system import System, a_system

Report = Callable[[str], None]

_QUIET = 6.0  # seconds without any change after which nothing more is expected
_LIMIT = 120.0
_UNREADABLE = " cannot read a "  # tests/whatsapp/people.py: no session of the peer fits


@dataclass(frozen=True)
class Result:
    """The result of a run.  `directory` is set for a failed run.

    `unreadable`: messages of wad that a peer's phone could not decrypt (they are `unsent`, too).
    `errors`: the run itself, or the test server, failed otherwise.
    """

    scenario: Scenario
    findings: Findings
    unreadable: int
    errors: tuple[str, ...]
    seconds: float
    directory: Path | None

    @property
    def ok(self) -> bool:
        """Whether everything is right."""
        return self.findings.ok and not self.unreadable and not self.errors

    def as_json(self) -> dict[str, Any]:
        """Its line."""
        kinds = Counter(str(fault.kind) for fault in self.scenario.faults)
        return {
            "seed": self.scenario.seed, "ok": self.ok, "faults": dict(kinds), "accounts": self.scenario.accounts,
            "peers": self.scenario.peers, "messages": len(self.scenario.writes), **self.findings.counts(),
            "unreadable": self.unreadable, "errors": list(self.errors), "seconds": round(self.seconds, 1),
            "directory": str(self.directory) if self.directory else None,
        }  # fmt: skip


def summary(results: list[Result]) -> dict[str, Any]:
    """The last line: everything added up."""
    findings = together(result.findings for result in results)
    return {
        "ok": bool(results) and all(result.ok for result in results),
        "runs": len(results),
        "failed_runs": [result.scenario.seed for result in results if not result.ok],
        "messages": sum(len(result.scenario.writes) for result in results),
        **findings.counts(),
        "unreadable": sum(result.unreadable for result in results),
        "errors": sum(len(result.errors) for result in results),
        "seconds": round(sum(result.seconds for result in results), 1),
    }


async def run(scenario: Scenario, report: Report, parent: Path) -> Result:
    """Run it, check it, and keep its directory (logs, databases, findings) if anything is wrong."""
    begun = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix=f"{scenario.seed}-", dir=parent))
    findings, unreadable, errors = Findings(), 0, list[str]()
    try:
        async with a_system(scenario, directory) as system:
            await _disturb(system, scenario, report)
            await system.settle(_QUIET, _LIMIT, report)
            found = [audit(await system.evidence(n)) for n in range(scenario.accounts)]
            findings = together(found)
            failures = [repr(error) for error in system.server.errors]
            errors = [text for text in failures if _UNREADABLE not in text]
            unreadable = len(failures) - len(errors)
    except (
        Exception
    ) as error:  # a run that cannot go on is a failed run, and the others still count
        report(traceback.format_exc())
        errors.append(repr(error))
    seconds = time.monotonic() - begun
    result = Result(scenario, findings, unreadable, tuple(errors), seconds, directory)
    if not result.ok:
        (directory / "findings.json").write_text(json.dumps(vars(findings), indent=1))
        return result
    await asyncio.to_thread(shutil.rmtree, directory)
    return Result(scenario, findings, 0, (), seconds, None)


async def _disturb(system: System, scenario: Scenario, report: Report) -> None:
    """Send all messages while the faults happen; returns when all are written and answered, and all faults are over."""
    trouble = Troublemaker(system)
    due = list(scenario.faults)
    questions: list[asyncio.Queue[tuple[int, str] | None]] = [
        asyncio.Queue() for _ in system.accounts
    ]

    async def strike(fault: Fault) -> None:
        await asyncio.sleep(fault.delay)
        report(
            f"after {fault.after}: {fault.kind} of account {fault.account}, {fault.seconds:.1f} s"
        )
        await trouble.do(fault)

    async def answer(account: int) -> None:
        while (question := await questions[account].get()) is not None:
            peer, client_id = question
            await system.ask(account, system.peers[peer], client_id)

    async with asyncio.TaskGroup() as group:
        for number in range(scenario.accounts):
            group.create_task(answer(number))
        for number, write in enumerate(scenario.writes, 1):
            await asyncio.sleep(write.pause)
            account = system.accounts[write.account]
            await system.peers[write.peer].send_text(account, f"message {number}")
            if write.answer_to is not None:
                questions[write.account].put_nowait((write.answer_to, f"client-{number}"))
            while due and due[0].after == number:
                group.create_task(strike(due.pop(0)))
        for queue in questions:
            queue.put_nowait(None)
