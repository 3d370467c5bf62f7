"""No part of a worker dies alone: an error that nobody handles ends the process, with its traceback and a last word.

A worker without its announcing thread, its permission's watch or its receipts' would look alive and do half its work;
a fresh process does all of it.
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
    """`say` tells the daemon the reason, without waiting for anybody."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def install(self) -> None:
        """Take what nobody catches: in any thread, and in any function that the library calls."""
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
            self._say(f"{what} of the worker failed: {kind}")
        finally:
            os._exit(FAULT)

    def guarded(self, what: str, work: Callable[[], None]) -> Callable[[], None]:
        """Work for a thread of a pool, which would keep an error to itself."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.end(what, error)

        return run
