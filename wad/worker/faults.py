"""Unhandled errors in a worker: an error in any thread ends the process, with its traceback and a final notice.

A worker without its reporting thread, its permission check or its receipts' thread would look alive and do half its
work; a new process does all of it.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from wad.engine.port import FAULT


class Faults:
    """Ends the process on an unhandled error.  `report` sends the reason to the daemon, without waiting."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    def install(self) -> None:
        """Install the hooks for unhandled errors: in any thread, and in any callback of the library."""
        threading.excepthook = self._of_thread
        sys.unraisablehook = self._of_callback

    def _of_thread(self, args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "?"
        self.end(f"thread {name}", args.exc_value)

    def _of_callback(self, args: sys.UnraisableHookArgs) -> None:
        if "ctypes callback" in (args.err_msg or ""):
            self.end("a callback of the library", args.exc_value)
        sys.__unraisablehook__(args)

    def end(self, what: str, error: BaseException | None) -> NoReturn:
        """End the process."""
        try:
            traceback.print_exception(error, file=sys.stderr)
            sys.stderr.flush()
            kind = type(error).__name__ if error is not None else "an unknown error"
            self._report(f"{what} of the worker failed: {kind}")
        finally:
            os._exit(FAULT)

    def guarded(self, what: str, work: Callable[[], None]) -> Callable[[], None]:
        """Wrap work for a pool's thread, which would swallow an error."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.end(what, error)

        return run
