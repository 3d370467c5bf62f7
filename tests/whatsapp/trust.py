"""What a process under test needs in its environment so that it takes this server for WhatsApp.

Nothing in the program under test knows of it: `sitecustomize`, which Python imports at start-up from PYTHONPATH, waits
until the program itself loads the library, through neonize or by its own `ctypes.CDLL`, and then replaces the pinned
Noise root key in its memory, and how often it pings where a test asked for that.  A process that never loads the
library stays as it is.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

from tests.whatsapp.golib import PINGS, REAL_ROOT_KEY, facts, library_path

_SITECUSTOMIZE = '''\
"""Written by tests/whatsapp/trust.py: makes the WhatsApp library in this process trust the test server."""

import sys

_MODULE = "ctypes"  # what loads shared objects


def _change(library):
    import ctypes
    import json
    from pathlib import Path

    trust = json.loads(Path(__file__).with_name("trust.json").read_text())
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, _, *path = line.split(None, 5)
        if path == [library] and int(offset, 16) == 0:
            base = int(span.partition("-")[0], 16)
            break
    else:
        raise RuntimeError(f"{library} is not loaded here")
    for address, *values in trust["changes"]:
        before, after = map(bytes.fromhex, values)
        if ctypes.string_at(base + address, len(before)) != before:
            raise RuntimeError(f"unexpected bytes at {address:#x}: another build of the library?")
        ctypes.memmove(base + address, after, len(after))


def _watch(ctypes):
    import os

    load = ctypes.CDLL.__init__

    def init(self, name, *args, **options):
        load(self, name, *args, **options)
        if "neonize-linux-" in os.path.basename(str(name)):
            _change(os.path.realpath(name))

    ctypes.CDLL.__init__ = init


class _Finder:
    """Finds the one module as usual, and lets more happen after it was executed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != _MODULE:
            return None
        from importlib.machinery import PathFinder

        sys.meta_path.remove(cls)
        spec = PathFinder.find_spec(name, path)
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _watch(module)

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Finder)
'''


def write_trust(directory: Path, root_key: bytes, pings: float | None = None) -> Path:
    """Make a directory for PYTHONPATH that makes the library trust `root_key`.

    `pings`: seconds between two pings on its connection, and until one counts as unanswered.
    """
    library = library_path()
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    found = facts(library)
    changes = [(found.root_key_address, REAL_ROOT_KEY.hex(), root_key.hex())]
    if pings is not None:
        pause = int(pings * 1_000_000_000)
        hurried = struct.pack("<4q", pause, pause, pause + 1_000_000, 180_000_000_000)
        changes.append((found.pings_address, PINGS.hex(), hurried.hex()))
    trust = {"library": str(library.resolve()), "changes": changes}
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
