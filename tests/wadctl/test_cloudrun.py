"""`wadctl cloud-run restart`, with a fake gcloud on PATH and a backend on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.gcloud import STATE, installed
from tests.support.wadctl_world import COMMAND, ROOT
from wad.audit.cloudrun import MATCH, knobs_from
from wad.audit.doctor.http import get_url

Health = Callable[[int], tuple[int, Any]]
"""The answer to the nth question, counted from 0."""


def healthy(number: int) -> tuple[int, Any]:
    """A backend that has just started whenever it is asked."""
    return 200, {"ok": True, "bootTimestamp": f"boot {number}"}


@contextmanager
def backend(health: Health) -> Iterator[str]:
    """A backend that answers like this; its address."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, document = health(len(asked)) if self.path == "/health" else (404, {})
            asked.append(self.path)
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def restart(
    directory: Path,
    *,
    health: Health = healthy,
    code: int = 0,
    environ: dict[str, str] | None = None,
    **state: Any,
) -> tuple[dict[str, Any], list[list[str]]]:
    """What the real command prints when it ends so, and what gcloud was asked."""
    with backend(health) as url:
        file = installed(directory, **{"url": url, **state})
        env = {
            "PATH": f"{directory}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            STATE: str(file),
        }
        done = subprocess.run(
            [*COMMAND, "cloud-run", "restart", "--tries", "3", "--every", "0"],
            env=env | (environ or {}), capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
    assert done.returncode == code, done
    return json.loads(done.stdout), json.loads(file.read_text())["calls"]


ONE = {"europe-west1": ["whatsapp-backend"]}


def test_a_service_is_restarted_and_is_back(tmp_path: Path) -> None:
    """The document is that of the reference, to the letter; the nonce is a new one each time."""
    report, calls = restart(tmp_path, services=ONE)
    assert report == {
        "ok": True,
        "project": "demo",
        "restartPerformed": True,
        "restartVerified": True,
        "service": "whatsapp-backend",
        "region": "europe-west1",
        "beforeRevision": "whatsapp-backend-00001",
        "afterRevision": "whatsapp-backend-00002",
    }
    (update,) = [call for call in calls if "update" in call]
    assert any(word.startswith("--update-env-vars=RESTART_NONCE=") for word in update)
    assert "--quiet" in update


def test_the_environment_sets_project_and_region(tmp_path: Path) -> None:
    """Then nothing is looked for."""
    environ = {"GCLOUD_PROJECT": "mine", "RUN_SERVICE_NAME": "api", "RUN_REGION": "r2"}
    report, calls = restart(tmp_path, services={"r2": ["api"]}, environ=environ)
    assert (report["project"], report["service"], report["region"]) == ("mine", "api", "r2")
    assert not any("list" in call or "config" in call for call in calls)


def test_candidates_are_found_by_name(tmp_path: Path) -> None:
    """In the regions named, the first that matches."""
    services = {"r1": ["web"], "r2": ["web", "my-Baileys"]}
    report, _ = restart(tmp_path, services=services, environ={"RUN_REGIONS": "r1, r2"})
    assert (report["service"], report["region"]) == ("my-Baileys", "r2")
    report, _ = restart(tmp_path, services=services, environ={"RUN_SERVICE_MATCH": "^web$"})
    assert report["region"] == "r1"


def test_an_invalid_expression_for_names(tmp_path: Path) -> None:
    """It is named, in the document that scripts read."""
    report, _ = restart(tmp_path, code=2, services=ONE, environ={"RUN_SERVICE_MATCH": "("})
    assert (report["reason"], report["restartPerformed"]) == ("unknown", False)
    assert report["lastError"].startswith("RUN_SERVICE_MATCH is not a regular expression")


def test_a_service_that_is_not_there_is_not_the_end(tmp_path: Path) -> None:
    """The next region is tried."""
    environ = {"RUN_SERVICE_NAME": "api", "RUN_REGIONS": "r1 r2"}
    report, _ = restart(tmp_path, services={"r1": [], "r2": ["api"]}, environ=environ)
    assert report["region"] == "r2"


def failure(report: dict[str, Any]) -> tuple[str, str]:
    """The reason, and the error of what was tried last."""
    assert (report["ok"], report["restartVerified"]) == (False, False)
    return report["reason"], report["tried"][-1]["error"] if report["tried"] else ""


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"services": {}}, ("no_regions", "")),
        ({"services": {"r1": ["web"]}}, ("no_candidate", "")),
        ({"services": ONE, "refuse": ["update"]}, ("update_failed", "update_failed")),
        ({"services": ONE, "refuse": ["describe"]}, ("unknown", "describe_failed")),
        ({"services": ONE, "no_image": True}, ("unknown", "missing_image")),
        ({"services": ONE, "project": ""}, ("unknown", "")),
    ],
)
def test_services_that_could_not_be_restarted(
    tmp_path: Path, state: Any, expected: tuple[str, str]
) -> None:
    """The reason, with gcloud's output."""
    report, _ = restart(tmp_path, code=2, **state)
    assert failure(report) == expected
    assert report["restartPerformed"] is False
    assert report["lastError"]
    if "refuse" in state:
        assert report["lastError"].endswith("was refused")


def test_a_revision_that_is_never_ready(tmp_path: Path) -> None:
    """It was restarted, but is not seen to be back; no other service is touched."""
    services = {"r1": ["backend-a", "backend-b"]}
    report, calls = restart(tmp_path, code=2, services=services, never_ready=True)
    assert failure(report) == ("unknown", "timeout_waiting_ready")
    assert report["restartPerformed"] is True
    assert len([call for call in calls if "update" in call]) == 1


@pytest.mark.parametrize(
    "health",
    [
        lambda number: (503, {"ok": False}),
        lambda number: (200, {"ok": False}),
        lambda number: (200, b"<html>"),
        lambda number: (200, {"ok": True, "bootTimestamp": "the same"}),
    ],
    ids=["503", "not ok", "no JSON", "the process from before"],
)
def test_health_is_really_checked(tmp_path: Path, health: Health) -> None:
    """In the reference any answer, and none, was a success."""
    report, _ = restart(tmp_path, code=2, services=ONE, health=health)
    assert failure(report) == ("unknown", "health_check_failed")
    assert report["restartPerformed"] is True


def test_a_backend_may_need_a_moment(tmp_path: Path) -> None:
    """The last look counts."""
    report, _ = restart(
        tmp_path,
        services=ONE,
        health=lambda number: healthy(number) if number > 2 else (503, {"ok": False}),
    )
    assert report["restartVerified"] is True


def test_without_gcloud(tmp_path: Path) -> None:
    """The error names what is missing; it is never downloaded."""
    env = {
        "PATH": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "GCLOUD_PROJECT": "p",
        "RUN_REGION": "r",
        "RUN_SERVICE_NAME": "s",
    }
    done = subprocess.run(
        [*COMMAND, "cloud-run", "restart"], env=env, capture_output=True, text=True, check=False, timeout=100
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["tried"][0]["error"]) == (2, "describe_failed")
    assert "gcloud is not installed" in done.stdout


def test_knobs() -> None:
    """The names of the reference, and its defaults."""
    assert knobs_from({}) == ("", "", (), MATCH)
    assert knobs_from({"GCP_PROJECT": "b"}).project == "b"
    assert knobs_from({"GCP_PROJECT": "b", "GCLOUD_PROJECT": "a"}).project == "a"
    assert knobs_from({"RUN_REGION": "x", "RUN_REGIONS": "y z"}).regions == ("x",)
    assert knobs_from({"RUN_REGIONS": "y, z"}).regions == ("y", "z")


@pytest.mark.parametrize("url", ["", "/health", "ftp://host/health"])
def test_an_invalid_address_is_not_requested(url: str) -> None:
    """A service without a URL is not healthy."""
    assert get_url(url).status == 0
