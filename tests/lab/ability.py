"""Whether this machine can run the lab at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Final

_TOOLS: Final = (
    "systemd-nspawn",
    "mmdebstrap",
    "dh",
    "lintian",
    "apt-ftparchive",
    "gpg",
    "nsenter",
)
_PROBE: Final = "mount -t tmpfs none /mnt && mkdir /mnt/c && mount -t cgroup2 none /mnt/c"


def obstacle() -> str | None:
    """Why the lab cannot run here; None when it can."""
    if os.geteuid() != 0:
        return "only root can boot containers; make lab asks sudo for that"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}; make lab installs them"
    probe = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", _PROBE],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode != 0:
        return f"this machine lets root make no namespaces and mounts: {probe.stderr.strip()}"
    return None
