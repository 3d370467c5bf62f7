"""An unhandled error in any part of a worker ends the process, is reported, and leaves its traceback."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.support.waiting import TIMEOUT
from wad.core import wire
from wad.engine.port import FAULT
from wad.engine.process import Process

WORKER = """
import socket, sys, threading
from concurrent.futures import ThreadPoolExecutor
from ctypes import CFUNCTYPE
from wad.lib.clock import SystemClock
from wad.worker import link as links, receipt_gate
from wad.worker.faults import Faults
from wad.worker.link import DaemonSocket, Permission

def fail(*_):
    raise KeyError("x")

link = DaemonSocket(socket.socket(fileno=int(sys.argv[1])))
faults = Faults(link.send_final_notice)
faults.install()
{act}
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("act", "part"),
    [
        ("link.notice = fail; link.report_spooled(1)", "thread announce"),
        ("links.time.sleep = fail; Permission(1e12, SystemClock()).watch()", "thread permission"),
        ("receipt_gate.time.sleep = fail; gate = receipt_gate.ReceiptGate(fail); gate._wake.set()", "thread receipts"),
        ("threading.Thread(target=fail, name='rest').start()", "thread rest"),
        ("ThreadPoolExecutor(1).submit(faults.guarded('an answer', fail))", "an answer"),
        ("CFUNCTYPE(None)(fail)()", "a callback of the library"),
        ("link._lock.acquire(); threading.Thread(target=fail, name='rest').start()", ""),
    ],
)  # fmt: skip
async def test_any_unhandled_error_ends_a_worker(act: str, part: str) -> None:
    """The final notice names the part, if it can be sent; the traceback is in the output."""
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-c", WORKER.replace("{act}", act), str(theirs.fileno())]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = Process.start(argv, environ, theirs, lambda line: None)
    with ours:
        async with asyncio.timeout(TIMEOUT):
            assert await process.ended == FAULT
            await process.drained()
        frames = wire.Decoder().feed(ours.recv(1 << 16))
    lines = [frame.params[0] for frame in frames if isinstance(frame, wire.Notice)]
    assert lines == ([f"{part} of the worker failed: KeyError"] if part else [])
    assert "KeyError: 'x'" in process.crash_report()
