"""`wad firestore check`, and which processes import Google's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.config.loaded import defaults
from tests.support.daemons import free_port
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.check import CheckResult, CheckVerdict, check

DOCUMENT = "wa_metrics/longrun/locks/wa_connection"


async def look(environ: Mapping[str, str]) -> CheckResult:
    """The result with these variables."""
    settings = defaults(**{"WAD_STORE_KIND": "firestore", **environ}).config.store
    return await check(settings, DOCUMENT, environ)


def a_service_account() -> dict[str, Any]:
    """A key that Google does not know."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account", "project_id": "demo", "private_key": key.decode(), "private_key_id": "1",
        "client_email": "wad@demo.iam.gserviceaccount.com", "token_uri": f"http://127.0.0.1:{free_port()}/token",
    }  # fmt: skip


async def test_an_emulator_is_ok(access: FirestoreAccess) -> None:
    """It needs no credentials."""
    finding = await look(
        {"FIRESTORE_EMULATOR_HOST": access.emulator, "GOOGLE_CLOUD_PROJECT": "demo-x"}
    )
    assert finding.verdict is CheckVerdict.OK
    assert str(finding.verdict) == "FIRESTORE_OK"
    assert "demo-x" in finding.why


async def test_no_credentials_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting, no variable, no metadata server."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert (await look({})).verdict is CheckVerdict.MISSING


@pytest.mark.parametrize(
    "variable", ["FIREBASE_SERVICE_ACCOUNT_JSON", "GOOGLE_APPLICATION_CREDENTIALS"]
)
async def test_a_file_that_is_not_there_is_missing(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever source names it."""
    environ = {variable: str(tmp_path / "nothing.json")}
    monkeypatch.setenv(*next(iter(environ.items())))
    assert (await look(environ)).verdict is CheckVerdict.MISSING


@pytest.mark.parametrize(
    "variable", ["FIREBASE_SERVICE_ACCOUNT_JSON", "GOOGLE_APPLICATION_CREDENTIALS"]
)
@pytest.mark.parametrize("content", ["{", "[]", '{"type": "service_account"}', "nonsense"])
async def test_a_file_of_another_form_is_malformed(
    variable: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its content is not quoted."""
    path = tmp_path / "key.json"
    path.write_text(content)
    environ = {variable: str(path)}
    monkeypatch.setenv(variable, str(path))
    finding = await look(environ)
    assert finding.verdict is CheckVerdict.MALFORMED
    assert content == "{" or content not in finding.why


async def test_a_credential_of_systemd_is_used(tmp_path: Path) -> None:
    """Before any other source; then its content is checked."""
    (tmp_path / "firebase-service-account").write_text('{"type": "service_account"}')
    finding = await look({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert finding.verdict is CheckVerdict.MALFORMED


class Metadata(BaseHTTPRequestHandler):
    """The metadata server of Google's machines."""

    def do_GET(self) -> None:
        """Whose machine it is."""
        found = {"/computeMetadata/v1/project/project-id": "the-project"}.get(self.path, "{}")
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/text")
        self.end_headers()
        self.wfile.write(found.encode())

    def log_message(self, *words: Any) -> None:
        """The output is dropped."""


def test_the_metadata_server_gives_credentials(tmp_path: Path) -> None:
    """It names the project if nothing else is set."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "GCE_METADATA_HOST": address, "GCE_METADATA_IP": address,
    }  # fmt: skip
    code = (
        "from wad.store.firestore.client.access import FirestoreAccess\n"
        "from wad.store.firestore.client.database import credentials_of\n"
        "found, project = credentials_of(FirestoreAccess())\n"
        "print(type(found).__module__, project)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    server.shutdown()
    server.server_close()
    assert done.stdout.split() == ["google.auth.compute_engine.credentials", "the-project"]


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    """No answer within the timeout."""
    finding = await look({"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{free_port()}"})
    assert finding.verdict is CheckVerdict.UNREACHABLE


async def test_a_token_server_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    """The key is well formed but cannot be verified."""
    environ = {"FIREBASE_SERVICE_ACCOUNT_JSON": json.dumps(a_service_account())}
    finding = await look(environ)
    assert finding.verdict is CheckVerdict.UNREACHABLE
    assert "BEGIN PRIVATE KEY" not in finding.why


async def test_a_server_that_forbids_has_denied() -> None:
    """As Google answers without a role in the project."""

    def deny(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "Missing or insufficient permissions.")
        raise AssertionError

    server = grpc.server(futures.ThreadPoolExecutor(1))
    methods = {"BatchGetDocuments": grpc.unary_stream_rpc_method_handler(deny)}
    service = "google.firestore.v1.Firestore"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        finding = await look({"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{port}"})
    finally:
        server.stop(None)
    assert finding.verdict is CheckVerdict.DENIED


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (CheckVerdict.OK, 0), (CheckVerdict.MISSING, 6), (CheckVerdict.MALFORMED, 6), (CheckVerdict.DENIED, 7),
        (CheckVerdict.UNREACHABLE, 8),
    ],
)  # fmt: skip
def test_each_verdict_has_its_exit_code(verdict: CheckVerdict, code: int) -> None:
    """The exit codes of the corresponding errors."""
    assert verdict.exit_code == code


def test_the_command_prints_the_verdict(access: FirestoreAccess) -> None:
    """The verdict first, so that a script can search for it."""
    environ = {**os.environ, "FIRESTORE_EMULATOR_HOST": access.emulator, "WAD_CONFIG": ""}
    done = subprocess.run(
        [sys.executable, "-m", "wad", "firestore", "check"],
        env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("FIRESTORE_OK: ")


@pytest.mark.parametrize(("kind", "loaded"), [("sqlite", False), ("firestore", True)])
def test_googles_library_is_loaded_only_if_configured(
    kind: str, loaded: bool, tmp_path: Path
) -> None:
    """A daemon on SQLite never imports it: it takes as much memory as the rest."""
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.config.loaded import defaults\n"
        "from wad.lib.clock import SystemClock\n"
        "import wad.daemon\n"
        "from wad.lib.loops import Loops\n"
        "from wad.store import open_store\n"
        f"config = defaults(WAD_STORE_KIND={kind!r}, STATE_DIRECTORY={str(tmp_path)!r},"
        f" FIRESTORE_EMULATOR_HOST='127.0.0.1:{free_port()}').config\n"
        "async def main():\n"
        "    store = await open_store(config, SystemClock(), Loops(SystemClock()))\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
        "print('google.cloud.firestore_v1' in sys.modules or 'grpc' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded)
