"""The restart of a backend that still runs on Cloud Run during a migration, with verification that it is back.

Knobs and JSON are those of the reference's restart-backend-gcloud.sh (docs/internals/replaced-backend.md#scripts).  Its
health step caught every error, so `restartVerified` meant nothing; here it means that a new revision is ready and that
its `/health` answers 200 and `ok`, from another process than before if it reports its start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from wad.audit.doctor.facts import HttpAnswer
from wad.core.decoding import decoding
from wad.core.errors import InvalidData

MATCH: Final = "whatsapp|baileys|backend"


class Ran(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


Run = Callable[[Sequence[str]], Ran]
"""Runs gcloud with these arguments."""
Probe = Callable[[str], HttpAnswer]
"""Requests a URL."""


class Knobs(NamedTuple):
    """The settings from the environment; empty: determined by gcloud."""

    project: str
    service: str
    regions: tuple[str, ...]
    match: str


class PollTimes(NamedTuple):
    """The number of polls, and the wait between two of them."""

    tries: int
    wait: Callable[[], None]


class Tried(msgspec.Struct, frozen=True):
    """A service that was tried, and its error."""

    service: str
    region: str
    error: str


class RevisionRestarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The result of a restart: the service answers again."""

    ok: bool = True
    project: str
    restart_performed: bool = True
    restart_verified: bool = True
    service: str
    region: str
    before_revision: str | None
    after_revision: str


class NotRestarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The result without a restart.

    `reason`: no_regions, no_candidate, update_failed or unknown; details in `tried`.
    """

    ok: bool = False
    project: str | None
    restart_performed: bool
    restart_verified: bool = False
    reason: str
    last_error: str | None
    tried: tuple[Tried, ...]


class _Failed(Exception):
    """A service could not be restarted; `performed`: it was restarted but did not come back in time."""

    def __init__(self, error: str, why: str, *, performed: bool = False) -> None:
        super().__init__(why)
        self.error = error
        self.performed = performed


def knobs_from(environ: Mapping[str, str]) -> Knobs:
    """GCLOUD_PROJECT or GCP_PROJECT, RUN_SERVICE_NAME, RUN_REGION or RUN_REGIONS, RUN_SERVICE_MATCH."""
    regions = environ.get("RUN_REGION") or environ.get("RUN_REGIONS", "")
    return Knobs(
        environ.get("GCLOUD_PROJECT") or environ.get("GCP_PROJECT", ""),
        environ.get("RUN_SERVICE_NAME", ""),
        tuple(filter(None, re.split(r"[,\s]+", regions))),
        environ.get("RUN_SERVICE_MATCH") or MATCH,
    )


def restart(
    run: Run, probe: Probe, knobs: Knobs, nonce: str, poll: PollTimes
) -> RevisionRestarted | NotRestarted:
    """Restart the first service that can be restarted, and wait until it is back."""
    project = knobs.project or _configured(run)
    if not project:
        return _not(None, "unknown", "no project: set GCLOUD_PROJECT, or gcloud config set project")
    regions = knobs.regions or _lines(
        run(["run", "regions", "list", f"--project={project}", _value("locationId")])
    )
    if not regions:
        return _not(project, "no_regions", "no region: set RUN_REGION")
    try:
        re.compile(knobs.match)
    except re.error as error:
        return _not(project, "unknown", f"RUN_SERVICE_MATCH is not a regular expression: {error}")
    tried: list[Tried] = []
    last = ""
    for service, region in _candidates(run, project, regions, knobs):
        found = _Service(run, project, service, region)
        try:
            before, after = found.restart(probe, nonce, poll)
        except _Failed as failed:
            tried.append(Tried(service, region, failed.error))
            last = str(failed)
            if failed.performed:  # no other service must be restarted in its place
                return _not(project, "unknown", last, tried, performed=True)
            continue
        return RevisionRestarted(
            project=project, service=service, region=region, before_revision=before, after_revision=after
        )  # fmt: skip
    if not tried:
        return _not(project, "no_candidate", f"no service name matches {knobs.match}")
    refused = any(each.error == "update_failed" for each in tried)
    return _not(project, "update_failed" if refused else "unknown", last, tried)


def _not(
    project: str | None,
    reason: str,
    last: str,
    tried: Sequence[Tried] = (),
    *,
    performed: bool = False,
) -> NotRestarted:
    return NotRestarted(
        project=project, restart_performed=performed, reason=reason, last_error=last or None, tried=tuple(tried)
    )  # fmt: skip


def _configured(run: Run) -> str:
    found = _lines(run(["config", "get-value", "project"]))
    return found[0] if found and found[0] != "(unset)" else ""


def _candidates(
    run: Run, project: str, regions: Sequence[str], knobs: Knobs
) -> Iterator[tuple[str, str]]:
    for region in regions:
        if knobs.service:
            yield knobs.service, region
            continue
        listed = run(
            [
                "run",
                "services",
                "list",
                f"--project={project}",
                f"--region={region}",
                _value("metadata.name"),
            ]
        )
        for name in _lines(listed):
            if re.search(knobs.match, name, re.IGNORECASE):
                yield name, region


def _value(field: str) -> str:
    return f"--format=value({field})"


def _lines(ran: Ran) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, ran.out.splitlines()))) if ran.code == 0 else ()


# --- one service ------------------------------------------------------------------------------------


class _Service:
    """A Cloud Run service in a region."""

    def __init__(self, run: Run, project: str, name: str, region: str) -> None:
        self._run = run
        self._name = name
        self._where = [f"--project={project}", f"--region={region}"]

    def restart(self, probe: Probe, nonce: str, poll: PollTimes) -> tuple[str | None, str]:
        """Restart it; return the revisions before and after.  Raises _Failed."""
        document = self._describe()
        if not _image(document):
            raise _Failed("missing_image", f"{self._name} has no image")
        before = _status(document).get("latestReadyRevisionName")
        booted = _booted(probe(_health_url(document)))
        env = f"--update-env-vars=RESTART_NONCE={nonce}"
        updated = self._run(["run", "services", "update", self._name, *self._where, env, "--quiet"])
        if updated.code != 0:
            raise _Failed("update_failed", _why(updated))
        after, url = self._await_revision(before, poll)
        _await_health(probe, url, booted, poll)
        return before, after

    def _describe(self) -> dict[str, Any]:
        ran = self._run(["run", "services", "describe", self._name, *self._where, "--format=json"])
        if ran.code != 0:
            raise _Failed("describe_failed", _why(ran))
        try:
            with decoding("what gcloud printed"):
                return msgspec.json.decode(ran.out, type=dict[str, Any])
        except InvalidData as error:
            raise _Failed("describe_failed", str(error)) from error

    def _await_revision(self, before: str | None, poll: PollTimes) -> tuple[str, str]:
        """Wait for a new ready revision; return it and its health URL."""
        why = ""
        for _ in range(poll.tries):
            try:
                document = self._describe()
            except _Failed as failed:
                why = str(failed)
            else:
                status = _status(document)
                ready, made = (
                    status.get("latestReadyRevisionName"),
                    status.get("latestCreatedRevisionName"),
                )
                if ready and ready != before and ready == made and _is_ready(status):
                    return str(ready), _health_url(document)
                why = f"{made} is not ready"
            poll.wait()
        raise _Failed("timeout_waiting_ready", why, performed=True)


def _await_health(probe: Probe, url: str, booted: object, poll: PollTimes) -> None:
    why = "it was not requested"
    for _ in range(poll.tries):
        answer = probe(url)
        if answer.status != 200 or answer.document is None or answer.document.get("ok") is not True:
            why = answer.error or f"{url} answers {answer.status} and is not ok"
        elif booted is not None and _booted(answer) == booted:
            why = f"{url} is still answered by the old process"
        else:
            return
        poll.wait()
    raise _Failed("health_check_failed", why, performed=True)


def _booted(answer: HttpAnswer) -> object:
    return None if answer.document is None else answer.document.get("bootTimestamp")


def _status(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("status")
    return found if isinstance(found, dict) else {}


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions")
    ready = {"type": "Ready", "status": "True"}
    return isinstance(conditions, list) and any(
        isinstance(each, dict) and ready.items() <= each.items() for each in conditions
    )


def _health_url(document: Mapping[str, Any]) -> str:
    return f"{str(_status(document).get('url', '')).rstrip('/')}/health"


def _image(document: Mapping[str, Any]) -> str:
    try:
        return str(document["spec"]["template"]["spec"]["containers"][0].get("image") or "")
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _why(ran: Ran) -> str:
    """The last line of gcloud's error output."""
    lines = [line.strip() for line in ran.err.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"gcloud ended with {ran.code}"
