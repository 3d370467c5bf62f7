"""Create the library's tables in a file that does not exist yet: `python -m wad.worker.schema FILE`.

The library itself creates them, so that they match its version.  A separate process, since two SQLite libraries
must not open one file in one process, and the library does not close it
(docs/internals/library.md#database-and-identity).  Nothing is sent to the network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

from wad.core.errors import EngineFailure
from wad.worker.c_interface import Functions, shared_object
from wad.worker.confinement.rules import Needs, code_paths, confine


def main() -> None:
    """The entry point; exit code 0 when the tables exist, otherwise the library's error text on stderr."""
    os.umask(0o077)
    account_dir = Path(sys.argv[1]).absolute().parent
    confine(Needs(account_dir, None, code_paths(os.environ), os.environ, network=False))
    try:
        # Without WAL: the result is one file, which can be renamed.
        error = Functions(shared_object()).make_tables(quote(sys.argv[1]))
    except EngineFailure as failure:
        error = str(failure)
    sys.stderr.write(error)
    sys.stderr.flush()
    os._exit(1 if error else 0)  # the library's threads cannot be joined


if __name__ == "__main__":
    main()
