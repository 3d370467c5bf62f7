"""Make the library's tables in a file that does not exist yet: `python -m wad.worker.schema FILE`.

The library itself makes them, so that they are those of its version.  A process of its own, since two SQLite libraries
must not open one file in one process, and the library does not close it
(docs/internals/library.md#database-and-identity).  Nothing goes to the network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

from wad.core.errors import EngineFailure
from wad.worker.c_interface import Functions, shared_object
from wad.worker.confinement.rules import Wants, code_paths, confine


def main() -> None:
    """The process's entry; 0 when the tables are there, else the library's words on stderr."""
    os.umask(0o077)
    home = Path(sys.argv[1]).absolute().parent
    confine(Wants(home, None, code_paths(os.environ), os.environ, network=False))
    try:
        # Without WAL: what comes of it is one file, which can be renamed.
        error = Functions(shared_object()).make_tables(quote(sys.argv[1]))
    except EngineFailure as failure:
        error = str(failure)
    sys.stderr.write(error)
    sys.stderr.flush()
    # The library's threads cannot be joined (docs/internals/library.md#loading).
    os._exit(1 if error else 0)


if __name__ == "__main__":
    main()
