"""What others wrote is decoded in one way, and state is written in one way: a look through the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).parent.parent.parent
DECODERS: Final = {
    *(
        "msgspec.json.decode",
        "msgspec.msgpack.decode",
        "msgspec.toml.decode",
        "msgspec.yaml.decode",
    ),
    *("msgspec.json.Decoder", "msgspec.msgpack.Decoder", "msgspec.convert"),
    *("json.load", "json.loads", "tomllib.load", "tomllib.loads"),
    *("msgpack.unpack", "msgpack.unpackb", "msgpack.Unpacker", "pickle.load", "pickle.loads"),
    *("base64.b64decode", "b64decode", "datetime.fromisoformat", "marshal.loads"),
}
"""Functions that fail over bytes in their own ways, and the makers of such functions."""

DECODED: Final = {
    "wad/api/legacy/sending.py:send": "our own operation's reply",
    "wad/api/legacy/sending.py:proxy_send": "our own operation's reply",
    "wad/audit/sqlite/undo.py:": "made once; `read` decodes files, and a Recorder what it has encoded itself",
    "wad/audit/firestore/undo.py:": "made once; `wad.audit.sqlite.undo.read` decodes with it",
    "wad/core/event.py:": "made once; used within decoding() below",
    "wad/core/outgoing.py:": "made once; used within decoding() below",
    "wad/core/untrusted.py:_ms_of_text": "its own ValueError is what it asks for",
    "wad/store/firestore/documents/build.py:": "made once; reads our own replica's rows",
    "wad/store/firestore/documents/build.py:_short": "bytes that were encoded a moment ago",
    "wad/store/firestore/documents/facts.py:": "made once; `decode.read` calls it within decoding()",
    "wad/store/firestore/documents/outbox.py:": "made once; used within decoding() below",
    "wad/store/firestore/documents/decode.py:": "made once; used within decoding() in `read`",
    "wad/store/sqlite/store.py:": "made once; reads our own store's rows",
    "wad/store/sqlite/rows.py:": "made once; read our own store's rows",
    "wadctl/moving.py:_export": "the daemon's own reply; the command's own handler reports errors",
}
"""Calls without decoding() around them, and the reason."""

WRITERS: Final = {
    *("os.replace", "os.rename", "shutil.move", "tempfile.NamedTemporaryFile", "tempfile.mkstemp"),
    *(".rename", ".replace", ".write_bytes", ".write_text", ".touch"),
}
WRITTEN: Final = {
    "wad/lib/files.py:": "the one place",
    "wad/systemd/failed_start.py:count": "a count in /run, which no reboot outlives; unreadable counts as none",
    "wad/systemd/http_port.py:main": "a drop-in in /run, which is made again at each boot",
    "wad/api/control/unix_socket.py:_create": "a socket, which no crash of the machine outlives",
    "wad/lib/sqlite_file.py:_create": "SQLite's own file, which it syncs itself",
    "wad/worker/patching.py:write": "the process's own memory",
    "wad/engine/simulator.py:scan": "the simulator, for tests",
    "wad/systemd/cgroups.py:_write": "a file of the kernel's",
    "wad/state/account_dir.py:_lock": "a lock's file: what counts is the lock",
    "wad/state/account_dir.py:take_session": "a rename, synced",
    "wad/state/account_dir.py:pack_card": "a rename, synced",
    "wad/state/account_dir.py:settle": "a rename of a directory, synced",
    "wad/state/account_dir.py:remove": "a rename of a directory, synced",
    "wad/state/account_dir.py:restore": "a rename of a directory, synced",
    "wad/state/account_dir.py:write_card": "keeps a damaged card; write_file syncs the directory after it",
    "wad/lib/streams.py:open_streams": "the standard streams, of open descriptors",
    "wad/state/outgoing_files.py:_append": "an upload in pieces, synced with the last of them",
    "wad/state/outgoing_files.py:_complete": "a rename of what was synced, and the directory after it",
    "wadctl/moving.py:_created": "a stream that is synced, and its directory, before the session is given up",
}
"""Functions that rename or write a file without write_file(), and the reason."""


OPENERS: Final = {
    "wad/audit/sqlite/rows.py:open": "our own store, which no worker can reach",
    "wad/audit/sqlite/repair.py:_opened": "our own store, which no worker can reach",
    "wad/lib/sqlite_file.py:_made_by": "an empty one in memory",
    "wad/lib/sqlite_file.py:_open": "with a Guard if it is untrusted: open_untrusted",
    "wad/lib/sqlite_file.py:open_reader": "for a database that open_database has opened: our own store",
    "wad/lib/sqlite_file.py:write_back": "with a Guard",
    "wad/engine/baileys/write.py:write": "a file that was created a moment ago, and is not used yet",
    "wad/engine/session_db.py:_opened": "with a Guard",
    "wad/engine/session_db.py:copy": "an empty one in memory",
    "wad/engine/session_db.py:check_copy": "with a Guard",
    "wad/state/spool_salvage.py:salvage": "with a Guard",
    "wad/store/emptied.py:_opened": "our own store, which no worker can reach",
}
"""Functions that open a SQLite database without wad.lib.sqlite_file, and the reason: a worker can write some."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """The source of the daemon and of wadctl."""
    for package in ("wad", "wadctl"):
        for file in sorted((TOP / package).rglob("*.py")):
            yield str(file.relative_to(TOP)), ast.parse(file.read_text())


def name_of(node: ast.expr) -> str:
    """`a.b.c` as it is written; empty for anything else."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, attribute):
            return f"{name_of(value)}.{attribute}"
    return ""


def calls(
    node: ast.AST, function: str = "", *, within: bool = False
) -> Iterator[tuple[str, ast.Call, bool]]:
    """Every call: the innermost function's name, the call, and whether `with decoding(...)` is around it."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                yield from calls(child, name)
                continue
            case ast.With(items) if any(
                isinstance(item.context_expr, ast.Call)
                and name_of(item.context_expr.func) == "decoding"
                for item in items
            ):
                yield from calls(child, function, within=True)
                continue
            case ast.Call():
                yield function, child, within
        yield from calls(child, function, within=within)


def naked_decodes() -> set[str]:
    """module:function of each decoder that is used, or made, outside of decoding()."""
    return {
        f"{module}:{function}"
        for module, tree in modules()
        for function, call, within in calls(tree)
        if not within and name_of(call.func) in DECODERS and module != "wad/core/decoding.py"
    }


def writes() -> set[str]:
    """module:function of each rename, and of each write to a file by its path."""
    return {
        f"{module}:{'' if module == 'wad/lib/files.py' else function}"
        for module, tree in modules()
        for function, call, _ in calls(tree)
        if _writes(call)
    }


def _writes(call: ast.Call) -> bool:
    name = name_of(call.func)
    if name in WRITERS and not name.startswith("."):
        return True
    if name == "os.open":
        return "O_CREAT" in ast.unparse(call) or "O_TRUNC" in ast.unparse(call)
    if not isinstance(call.func, ast.Attribute | ast.Name):
        return False
    method = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
    if method == "open":
        modes = [each.value for each in call.args if isinstance(each, ast.Constant)]
        return any(isinstance(mode, str) and set(mode) & {"w", "a", "x", "+"} for mode in modes)
    # A text's, a date's and a struct's have two arguments, or named ones; an account's begins with its id.
    one = len(call.args) == 1 and not call.keywords and not isinstance(call.args[0], ast.Starred)
    owner = name_of(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    return f".{method}" in WRITERS and one and owner != "account"


def test_untrusted_data_is_decoded_in_one_way() -> None:
    """No module decodes outside of decoding(), unless it is listed with a reason."""
    assert naked_decodes() - DECODED.keys() == set()


def test_state_is_written_in_one_way() -> None:
    """No module renames or writes files by itself, unless it is listed with a reason."""
    assert writes() - WRITTEN.keys() == set()


def openers() -> set[str]:
    """module:function of each that opens a SQLite database."""
    return {
        f"{module}:{function}"
        for module, tree in modules()
        for function, call, _ in calls(tree)
        if name_of(call.func) == "sqlite3.connect"
    }


def test_a_database_is_opened_in_one_way() -> None:
    """No module opens one by itself, unless it is listed with a reason."""
    assert openers() - OPENERS.keys() == set()


@pytest.mark.parametrize(
    ("listed", "found"), [(DECODED, naked_decodes()), (WRITTEN, writes()), (OPENERS, openers())]
)
def test_no_exception_is_out_of_date(listed: dict[str, str], found: set[str]) -> None:
    """What is listed is there."""
    assert listed.keys() - found == set()


@pytest.mark.parametrize(
    ("source", "naked"),
    [
        ("json.loads(a)", True),
        ("with decoding('x'):\n    json.loads(a)", False),
        ("with decoding('x'):\n    def f(): json.loads(a)", True),
        ("def f():\n    with open(a), decoding('x'):\n        return json.loads(a)", False),
        ("with open(a):\n    msgspec.convert(a, b)", True),
        ("x = msgspec.msgpack.Decoder(int).decode", True),
        ("a.decode()", False),
    ],
)
def test_the_check_sees_what_it_should(source: str, naked: bool) -> None:
    """It is about the block around a call."""
    found = [
        call
        for _, call, within in calls(ast.parse(source))
        if not within and name_of(call.func) in DECODERS
    ]
    assert bool(found) == naked
