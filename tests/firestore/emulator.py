"""Google's Firestore emulator, started by the tests: real gRPC, transactions and listeners."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.missing import EMULATOR, JAVA, Missing, emulator, java
from tests.support.daemons import free_port
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore, Snapshot

_TIMEOUT: Final = 60.0


def find() -> Path:
    """The start script.  Raises Missing, which skips a test, without the script or Java."""
    if java() is None:
        raise Missing(*JAVA)
    script = emulator()
    if script is None:
        raise Missing(*EMULATOR)
    return script


@contextmanager
def an_emulator(script: Path) -> Iterator[int]:
    """A running emulator; its port on 127.0.0.1."""
    port = free_port()
    process = subprocess.Popen(
        [str(script), "start", "--host=127.0.0.1", f"--port={port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # the script starts Java as its child: both are ended
    )
    try:
        _wait(process, port)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the emulator ended with {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if sock.recv(100):
                    return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the emulator did not answer within {_TIMEOUT:g} s")


async def warm_up(access: FirestoreAccess) -> None:
    """Make each kind of call once: the first of its kind takes Java seconds, and deadlines in tests are short."""
    firestore = Firestore(access, "warm-up", 1)

    def work(client: Client) -> None:
        document = client.document("warm/up")
        batch = client.batch()
        batch.set(document, {"n": 1})
        batch.commit(retry=None, timeout=60)
        list(client.get_all([document], retry=None, timeout=60))
        client.collection("warm").order_by("n").limit(1).get(retry=None, timeout=60)

    await firestore.call(work)
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_change(snapshot: Snapshot) -> None:
        loop.call_soon_threadsafe(seen.set)

    unwatch = await firestore.call(
        lambda client: firestore.watch("warm/up", on_change, lambda: None)
    )
    await seen.wait()
    unwatch()
    firestore.close()
