"""No long-lived loop, task or thread is forgotten: each is kept by `wad.lib.loops`, or known here with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent

AWAITED = "its creator waits for it, and handles its errors"
BOUNDED = "each iteration brings it nearer to its end"
A_WORKERS = "wad.worker.faults ends the process when it fails"
HANDED_ON = "the caller gets the errors of its work"

KNOWN = {
    ("wad/lib/loops.py", "Loop._rest"): "the supervisor",
    ("wad/lib/loops.py", "Loops._tried"): "the supervisor",
    ("wad/lib/loops.py", "Loops.start"): "the supervisor",
    ("wad/lib/loops.py", "Loops.once"): "the supervisor",
    ("wad/lib/threads.py", "ThreadPool.__init__"): HANDED_ON,
    ("wad/lib/threads.py", "ThreadPool._work"): HANDED_ON,
    ("wad/lib/cancellation.py", "uncancellable"): AWAITED,
    ("wad/api/control/server.py", "_ControlPolicy.__init__"): HANDED_ON,
    ("wad/api/control/tasks.py", "Tasks.start"): "Tasks logs and counts what fails",
    ("wad/api/http_process/supervisor.py", "HttpProcess._attach"): AWAITED,
    ("wad/http/daemon_client.py", "DaemonConnection.__init__"): "its end ends the connection and all its calls",
    ("wad/http/daemon_client.py", "DaemonConnection._answer"): "until the answer, or the daemon gives no sign of life",
    ("wad/api/http_process/supervisor.py", "HttpProcess._until_it_ends"): AWAITED,
    ("wad/http/daemon_client.py", "DaemonLink._result"): "until the answer, or for 10 s",
    ("wad/http/daemon_client.py", "DaemonLink._connected"): AWAITED,
    ("wad/http/process.py", "run"): "without a pulse systemd starts another process",
    ("wad/http/process.py", "_pulse"): "without a pulse systemd starts another process",
    ("wad/http/process.py", "_Process.send_heartbeats"): "without heartbeats the daemon starts another process",
    ("wad/http/sharing.py", "SingleFlight._start"): HANDED_ON,
    ("wad/core/wire.py", "_check"): BOUNDED,
    ("wad/daemon.py", "_live"): AWAITED,
    ("wad/daemon.py", "_first_of"): AWAITED,
    ("wad/engine/workers.py", "NeonizeEngine.launch"): AWAITED,
    ("wad/engine/supervision.py", "SupervisedWorker.__init__"): "its end is reported whatever fails (test_workers.py)",
    ("wad/engine/supervision.py", "SupervisedWorker._supervise"): AWAITED,
    ("wad/engine/process.py", "Process.__init__"): "without it the pipe is closed, which ends the worker",
    ("wad/worker/inbox.py", "Inbox.__init__"): A_WORKERS,
    ("wad/worker/inbox.py", "Inbox._work"): A_WORKERS,
    ("wad/worker/inbox.py", "Inbox._store"): "until the disk accepts it; the daemon gets the reason",
    ("wad/worker/link.py", "DaemonSocket.__init__"): A_WORKERS,
    ("wad/worker/link.py", "DaemonSocket._report"): A_WORKERS,
    ("wad/worker/link.py", "Permission.watch"): A_WORKERS,
    ("wad/worker/link.py", "Permission._watch"): A_WORKERS,
    ("wad/flow/inbound/pipeline.py", "_close"): AWAITED,
    ("wad/systemd/log_stream.py", "LogStream.__init__"): "lines that are not read are dropped and counted",
    ("wad/systemd/log_stream.py", "LogStream._work"): "lines that are not read are dropped and counted",
    ("wad/store/write_behind.py", "WriteBehind._work"): "until nothing is due; its errors are raised by the next put",
    ("wad/worker/requests.py", "RequestReader.requests"): "until the daemon ends",
    ("wad/worker/receipt_gate.py", "ReceiptGate.__init__"): A_WORKERS,
    ("wad/worker/receipt_gate.py", "ReceiptGate._watch"): A_WORKERS,
    ("wad/worker/main.py", "WorkerProcess.start"): A_WORKERS,
    ("wad/worker/main.py", "WorkerProcess._release_memory"): A_WORKERS,
    ("wad/worker/requests.py", "serve"): A_WORKERS,
    ("wad/flow/accounts/accounts.py", "Accounts.lead"): AWAITED,
    ("wad/flow/accounts/card_keeper.py", "CardKeeper.change"): AWAITED,
    ("wad/flow/accounts/removal.py", "Removal.remove"): AWAITED,
    ("wad/flow/inbound/backfill.py", "Run._answer"): BOUNDED,
    ("wad/flow/inbound/pipeline.py", "Inbound._open"): AWAITED,
    ("wad/flow/leadership/leader.py", "Leader._either"): AWAITED,
    ("wad/flow/leadership/lease_writer.py", "LeaseWriter.write"): AWAITED,
    ("wad/flow/outbound/queue.py", "Outbound._end"): AWAITED,
    ("wad/flow/outbound/numbers.py", "Numbers._ask"): AWAITED,
    ("wad/flow/outbound/sender.py", "Sender._check_number"): AWAITED,
    ("wad/flow/outbound/sender.py", "Sender._start_send"): AWAITED,
    ("wad/flow/outbound/tidying.py", "files_needed"): BOUNDED,
    ("wad/state/spool.py", "Spool.raw_after"): BOUNDED,
    ("wad/store/sqlite/store.py", "SqliteStore.__init__"): HANDED_ON,
    ("wad/store/firestore/client/database.py", "Firestore.close"): "it may hang, and is not waited for",
    ("wad/store/firestore/copy.py", "copy"): BOUNDED,
    ("wad/store/firestore/sync/legacy_import.py", "import_legacy"): BOUNDED,
    ("wad/store/firestore/sync/legacy_import.py", "_threads"): BOUNDED,
    ("wad/store/firestore/client/listen.py", "ListenStream.__init__"): "the listener is notified of its end",
    ("wad/store/firestore/store.py", "FirestoreStore.lead"): AWAITED,
    ("wad/store/firestore/client/threads.py", "DaemonThreads._put"): HANDED_ON,
}  # fmt: skip
"""Loops, tasks and threads that `wad.lib.loops` does not keep, and the reason why each is safe."""

COMMANDS = ("wad/audit/", "wadctl/")
"""Programs that are run by hand and end."""


class Found(NamedTuple):
    """A statement that begins something long-lived."""

    path: str
    function: str
    what: str


def begins(node: ast.AST) -> str:
    """What a node of the program begins; empty for nothing."""
    if isinstance(node, ast.While) and isinstance(node.test, ast.Constant) and node.test.value:
        return "while True"
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    of = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if name in {"create_task", "ensure_future", "run_coroutine_threadsafe"}:
        work = node.args[0]
        kept = isinstance(work, ast.Call) and getattr(work.func, "attr", "") == "keep"
        return "" if kept else name
    if name in {"ThreadPoolExecutor", "start_new_thread"} or (of, name) == ("threading", "Timer"):
        return name
    return (
        name
        if name == "Thread" and (of == "threading" or (not of and "target" in _words(node)))
        else ""
    )


def _words(call: ast.Call) -> set[str | None]:
    return {word.arg for word in call.keywords}


def is_kept(function: ast.AST) -> bool:
    """Whether it is the body of a loop: it takes the `Loop` on which it reports."""
    if not isinstance(function, ast.AsyncFunctionDef):
        return False
    notes = [each.annotation for each in function.args.args if each.annotation is not None]
    return any(ast.unparse(note) == "Loop" for note in notes)


def found_in(path: str, text: str) -> Iterator[Found]:
    """All of them in one module, but for the bodies of kept loops."""

    def visit(node: ast.AST, name: str, kept: bool) -> Iterator[Found]:
        for child in ast.iter_child_nodes(node):
            inner, inside = name, kept
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner, inside = f"{name}.{child.name}".lstrip("."), is_kept(child)
            what = begins(child)
            if what and not (what == "while True" and inside):
                yield Found(path, inner, what)
            yield from visit(child, inner, inside)

    yield from visit(ast.parse(text), "", False)


def test_each_long_lived_loop_is_kept_or_known() -> None:
    """A new one is kept by `Loops.start`, `once` or `keep`, or gets a line above with its reason."""
    paths = sorted([*ROOT.glob("wad/**/*.py"), *ROOT.glob("wadctl/**/*.py")])
    assert len(paths) > 100
    names = {path: str(path.relative_to(ROOT)) for path in paths}
    everything = [found for path in paths for found in found_in(names[path], path.read_text())]
    forgotten = [
        f"{found.path}: {found.function} has {found.what}"
        for found in everything
        if not found.path.startswith(COMMANDS) and found[:2] not in KNOWN
    ]
    assert forgotten == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("async def f():\n while True:\n  pass", "while True"),
        ("async def f():\n while 1:\n  pass", "while True"),
        ("async def f(loop: Loop):\n while True:\n  pass", ""),
        ("def f(loop: Loop):\n while True:\n  pass", "while True"),
        ("def f():\n asyncio.create_task(g())", "create_task"),
        ("def f():\n group.create_task(g())", "create_task"),
        ("def f():\n asyncio.create_task(loops.keep('x', g))", ""),
        ("def f():\n asyncio.ensure_future(g())", "ensure_future"),
        ("def f():\n threading.Thread(target=g)", "Thread"),
        ("def f():\n Thread(target=g)", "Thread"),
        ("def f():\n Thread(id=1)", ""),
        ("def f():\n ThreadPoolExecutor(1)", "ThreadPoolExecutor"),
        ("x = 1", ""),
    ],
)
def test_the_start_of_a_loop_is_found(text: str, what: str) -> None:
    """However it is written."""
    assert [found.what for found in found_in("x.py", text)] == ([what] if what else [])
