"""How this machine reaches the package registries, handed on to a tree that is to reach them, too.

A machine behind a proxy, or whose network answers with a certificate of its own, has been told so by whoever runs it:
in the environment, in apt's configuration, among the certificates of /usr/local.  Nothing else is handed on.
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
    """Prepare a tree; what belongs into the environment of those who work in it."""
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
