"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests import missing
from tests.missing import Missing, says_how

# No timing asserts: a busy machine must not fail a property.
settings.register_profile(
    "wad", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("wad")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a test."""
    return _not_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The report of a collected file."""
    return _not_skipped((yield))


def _not_skipped(report: Report) -> Report:
    """A skip says what is missing and how to get it; in CI nothing may be missing.  Else it is a failure.

    All tests that lack the same thing are one line at the end, whatever files they are in.
    """
    if not report.skipped or hasattr(report, "wasxfail"):
        return report
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    why = why.removeprefix("Skipped: ").removeprefix(f"{Missing.__module__}.{Missing.__name__}: ")
    if os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"no test may be skipped in CI.  {why}"
    elif says_how(why):
        report.longrepr = (missing.__file__, 1, why)
    else:
        report.outcome = "failed"
        report.longrepr = (
            f"a test is skipped for no other reason than tests.missing.Missing.  {why}"
        )
    return report
