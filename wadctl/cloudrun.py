"""`wadctl cloud-run restart`: restarts a backend that still runs on Cloud Run, through the installed gcloud.

Always prints one JSON document, as the script that it replaces did.  Exit codes: 0 restarted and healthy,
2 not, 64 usage.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from wadctl.auditing import AuditCommand
from wadctl.commands import CommandGroup, json_option
from wadctl.invocation import current_invocation

if TYPE_CHECKING:
    from wad.audit.cloudrun import Ran

_NOT_DONE: Final = 2
_NO_GCLOUD: Final = 127  # a shell's exit code for "command not found"
_GCLOUD_TIMEOUT: Final = 600.0  # seconds; an update waits for the new revision

_HELP: Final = """\
Restart a backend on Cloud Run and check its health.

Creates a new revision of the service with gcloud, waits until it is ready, and requests /health, which must reply with
200 and ok. The project is $GCLOUD_PROJECT, else $GCP_PROJECT, else gcloud's own; the service $RUN_SERVICE_NAME, else
the first whose name matches $RUN_SERVICE_MATCH (whatsapp|baileys|backend); the region $RUN_REGION, else each of
$RUN_REGIONS, else each that gcloud lists. Always prints one JSON document.

Exit code: 0 restarted and healthy, 2 not, 64 usage."""


def cloud_run_group() -> click.Group:
    """The group `wadctl cloud-run` with its command."""
    restart = AuditCommand(
        "restart",
        params=[
            click.Option(
                ["--tries"], type=click.IntRange(1, 10_000), default=60, show_default=True,
                help="How many times to check whether it is ready, and then whether it is healthy.",
            ),
            click.Option(
                ["--every"], type=click.FloatRange(0, 3600), default=5.0, show_default=True,
                help="Seconds between two checks.",
            ),
            json_option(),
        ],
        callback=_restart,
        help=_HELP,
    )  # fmt: skip
    group = CommandGroup("cloud-run", help="Control a backend that still runs on Cloud Run.")
    group.add_command(restart)
    return group


def _restart(tries: int, every: float) -> None:
    import secrets

    from wad.audit.cloudrun import PollTimes, knobs_from, restart
    from wad.audit.doctor.http import get_url

    invocation = current_invocation()
    times = PollTimes(tries, lambda: invocation.sleep(every))
    report = restart(_gcloud, get_url, knobs_from(os.environ), secrets.token_hex(8), times)
    invocation.print_json(report)
    raise click.exceptions.Exit(0 if report.ok else _NOT_DONE)


def _gcloud(arguments: Sequence[str]) -> Ran:
    """Run gcloud.  A missing gcloud and a timeout count as a failed run."""
    import subprocess

    from wad.audit.cloudrun import Ran

    try:
        done = subprocess.run(
            ["gcloud", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_GCLOUD_TIMEOUT,
            check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return Ran(
            _NO_GCLOUD, "", "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
        )
    except subprocess.TimeoutExpired:
        return Ran(1, "", f"gcloud did not finish within {_GCLOUD_TIMEOUT:g} s")
    return Ran(done.returncode, done.stdout, done.stderr)
