"""This machine's access to the package registries, configured in a tree that needs it, too.

On a machine behind a proxy, or with a network that has its own certificate, that is configured: in the environment, in
apt's configuration, among the certificates of /usr/local.  Nothing else is copied.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_CERTIFICATES: Final = Path("usr/local/share/ca-certificates")
_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
_NAMES: Final = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("PIP_INDEX_URL", "NPM_CONFIG_REGISTRY"),
)
_OF_APT: Final = ("Acquire::http::Proxy", "Acquire::https::Proxy")


def hand_on(root: Path) -> dict[str, str]:
    """Prepare a tree; returns the environment for processes in it."""
    environ = {name: os.environ[name] for name in _NAMES if name in os.environ}
    said = subprocess.run(
        ["apt-config", "dump", "--format", '%F "%v";%n', *_OF_APT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    (root / "etc/apt/apt.conf.d/90registries").write_text(said.stdout)
    ours = sorted((Path("/") / _CERTIFICATES).glob("*.crt"))
    if ours:
        (root / _CERTIFICATES).mkdir(parents=True, exist_ok=True)
        for certificate in ours:
            shutil.copy(certificate, root / _CERTIFICATES)
        subprocess.run(
            ["chroot", str(root), "update-ca-certificates"], check=True, capture_output=True
        )
        environ |= {"PIP_CERT": _BUNDLE, "NODE_EXTRA_CA_CERTS": _BUNDLE}
    return environ
