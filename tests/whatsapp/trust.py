"""What a process under test needs in its environment so that it takes this server for WhatsApp.

Nothing in the program under test knows of it: `sitecustomize`, which Python imports at start-up from PYTHONPATH, waits
until the program itself loads the library, and then replaces the pinned Noise root key in its memory.  A process that
never loads the library stays as it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.whatsapp.golib import REAL_ROOT_KEY, facts, library_path

_SITECUSTOMIZE = '''\
"""Written by tests/whatsapp/trust.py: makes the WhatsApp library in this process trust the test server."""

import importlib.abc
import importlib.machinery
import json
import sys
from pathlib import Path

_MODULE = "neonize._binder"  # loads the shared object


def _replace_root_key():
    import ctypes

    trust = json.loads(Path(__file__).with_name("trust.json").read_text())
    base = next(
        int(line.split("-", 1)[0], 16)
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(trust["library"])
    )
    real, ours = bytes.fromhex(trust["real"]), bytes.fromhex(trust["ours"])
    if ctypes.string_at(base + trust["address"], 32) != real:
        raise RuntimeError("unexpected bytes where the Noise root key should be")
    ctypes.memmove(base + trust["address"], ours, 32)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        loader = spec.loader
        run = loader.exec_module

        def exec_module(module):
            run(module)
            _replace_root_key()

        loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder())
'''


def write_trust(directory: Path, root_key: bytes) -> Path:
    """Make a directory for PYTHONPATH that makes the library trust `root_key`."""
    library = library_path()
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    trust = {
        "library": str(library.resolve()),
        "address": facts(library).root_key_address,
        "real": REAL_ROOT_KEY.hex(),
        "ours": root_key.hex(),
    }
    (site / "trust.json").write_text(json.dumps(trust))
    return site


def environment(proxy: str, certificate: Path, site: Path) -> dict[str, str]:
    """The variables; they must be set before the process starts, since Go reads the original block."""
    path = [str(site), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    return {
        "HTTPS_PROXY": proxy,
        "SSL_CERT_FILE": str(certificate),
        "PYTHONPATH": os.pathsep.join(path),
    }
