"""Processes that a test starts or waits for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_a_process(code: str) -> Any:
    """The JSON document in the last line that a new Python process prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def gone(pid: int) -> bool:
    """Whether a process has ended and was waited for."""
    return not Path(f"/proc/{pid}/cmdline").exists()
