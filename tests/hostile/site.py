"""Injects attempts into a real worker: lines for `sitecustomize`, which Python imports at its start from PYTHONPATH.

The worker of one account, named in `hostile.json`, confines itself as always; then, before it does anything else, it
tries everything, writes the results to its own directory, and continues normally.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tests.hostile import attempts
from tests.hostile.attempts import Targets

TRIED: Final = "tried.json"
"""In the account's directory."""

_SITE: Final = """

def _take_over():
    import json
    from pathlib import Path

    file = Path(__file__).with_name("hostile.json")
    if not file.exists() or "wad.worker.main" not in sys.orig_argv:
        return
    given = json.loads(file.read_text())
    if given["account"] not in sys.orig_argv:
        return
    from wad.worker import link
    from wad.worker.confinement import landlock

    begin, abi = link.DaemonSocket.__init__, landlock.abi

    def init(self, sock):
        begin(self, sock)
        import hostile_attempts

        targets = hostile_attempts.Targets(**given["targets"])
        tried = [
            hostile_attempts.tried(targets, each)
            for each in (hostile_attempts.ATTEMPTS, hostile_attempts.NEEDED)
        ]
        Path(targets.account_dir, "tried.json").write_text(json.dumps(tried))

    link.DaemonSocket.__init__ = init
    landlock.abi = lambda: min(abi(), given["abi"])


_take_over()
"""


def files(account: str, targets: Targets, abi: int, sitecustomize: str) -> dict[str, str]:
    """The files for the directory in PYTHONPATH, by name; `sitecustomize` is the current content of that file."""
    given = {"account": account, "targets": targets._asdict(), "abi": abi}
    kept = sitecustomize.removesuffix(_SITE)
    return {
        "hostile.json": json.dumps(given),
        "hostile_attempts.py": Path(attempts.__file__).read_text(),
        "sitecustomize.py": kept + _SITE,
    }
