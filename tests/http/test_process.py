"""The HTTP process beside the real daemon: started by it, and started as systemd starts it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import Daemon, a_daemon, free_port
from tests.support.fake_daemon import FakeDaemon
from tests.support.http_client import Reply, ask
from wad.api.control.server import serve_http_calls
from wad.api.http_process.calls import HttpCalls, HttpProcesses
from wad.api.http_process.child import HttpChildOptions, start_http
from wad.api.http_process.supervisor import HttpProcess
from wad.audit.doctor import host
from wad.core import wire
from wad.core.errors import Unavailable
from wad.http.process import Options, run
from wad.http.server.listening import bind
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.systemd.activation import started
from wad.systemd.notify import Notifier

pytestmark = pytest.mark.timeout(180)

SECRET = "s3cret-of-the-http-process"


async def process_of(daemon: Daemon) -> dict[str, Any]:
    """The HTTP process that is connected."""
    async with asyncio.timeout(30):
        while True:
            for found in (await daemon.call("status"))["http"]:
                assert isinstance(found, dict)
                return found
            await asyncio.sleep(0.05)


async def answered(port: int, path: str = "/healthz") -> Reply:
    """The first answer, once a process listens again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await ask(port, path)
            except OSError:
                await asyncio.sleep(0.05)


async def test_the_daemon_opens_no_port(tmp_path: Path) -> None:
    """The process beside it opens it, and has neither its environment nor its files."""
    async with a_daemon(tmp_path, {"ADMIN_TOKEN": SECRET}, engine="simulator") as daemon:
        http = await process_of(daemon)
        assert daemon.process is not None
        by_pid = {each.pid: each.port for each in host.listeners({http["pid"]})}
        assert daemon.process.pid not in by_pid
        assert by_pid[http["pid"]] == daemon.port
        assert http["listening"] == [f"127.0.0.1:{daemon.port}"]
        proc = Path(f"/proc/{http['pid']}")
        assert SECRET.encode() not in (proc / "environ").read_bytes()
        assert SECRET.encode() not in (proc / "cmdline").read_bytes()
        names = [os.readlink(each) for each in (proc / "fd").iterdir()]
        assert not [name for name in names if str(daemon.state) in name]
        assert (await ask(daemon.port, "/api/whatsapp/accounts", token=SECRET)).status == 200
        maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert "httptools" not in maps


async def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    """After kill -9, while the daemon runs on."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        first = await process_of(daemon)
        boot = (await daemon.call("version"))["boot_id"]
        os.kill(first["pid"], signal.SIGKILL)
        assert (await answered(daemon.port)).status == 200
        assert (await process_of(daemon))["pid"] != first["pid"]
        assert (await daemon.call("version"))["boot_id"] == boot


async def test_it_ends_with_the_daemon(tmp_path: Path) -> None:
    """Also when the daemon is killed."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        http = await process_of(daemon)
        assert daemon.process is not None
        daemon.process.kill()
        await asyncio.to_thread(daemon.process.wait)
        daemon.process = None
        async with asyncio.timeout(30):
            while Path(f"/proc/{http['pid']}").exists():
                await asyncio.sleep(0.05)


async def test_a_daemon_that_hangs_is_unreachable(tmp_path: Path) -> None:
    """503 has the time of the last answer; once the daemon runs again all is well."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        assert (await ask(daemon.port, "/health")).status == 200
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            replies = await asyncio.gather(*(ask(daemon.port, "/health") for _ in range(10)))
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        for reply in replies:
            assert (reply.status, reply.document["error"]) == (503, "daemon_unreachable")
            assert reply.document["since"].startswith("20")
        async with asyncio.timeout(30):
            while (await ask(daemon.port, "/health")).status != 200:
                await asyncio.sleep(0.05)


async def test_a_stopped_one_does_not_keep_the_port(tmp_path: Path) -> None:
    """It ends with the daemon that started it, whatever state it is in, and frees the port."""
    async with a_daemon(tmp_path, engine="simulator") as daemon:
        http = await process_of(daemon)
        os.kill(http["pid"], signal.SIGSTOP)
        try:
            await daemon.end(signal.SIGKILL)
            async with asyncio.timeout(30):
                while daemon.port in {each.port for each in host.listeners(())}:
                    await asyncio.sleep(0.05)
            await daemon.start()
            assert (await answered(daemon.port)).status == 200
        finally:
            with suppress(ProcessLookupError):
                os.kill(http["pid"], signal.SIGKILL)


@asynccontextmanager
async def a_watched_one(
    daemon: FakeDaemon, port: int, loops: Loops
) -> AsyncIterator[HttpProcesses]:
    """A process with frequent heartbeats, and its replacements, as `wad run` has them."""
    processes = daemon.http_processes
    calls = HttpCalls(daemon, processes)
    child = start_http(HttpChildOptions("127.0.0.1", port, heartbeat=0.5))
    try:
        async with (
            serve_http_calls(daemon, calls) as take,
            HttpProcess(child).served(take, processes, loops),
        ):
            yield processes
    finally:
        child.kill()


async def test_one_that_hangs_is_replaced() -> None:
    """It is reported while it hangs and when it is replaced; then all is well, and the port is answered."""
    loops, port = Loops(SystemClock()), free_port()
    async with a_watched_one(FakeDaemon(), port, loops) as processes, asyncio.timeout(60):
        (first,) = processes.all
        while not loops.running:
            await asyncio.sleep(0)
        (loop,) = loops.running
        os.kill(first.pid, signal.SIGSTOP)
        while not loop.failure:
            await asyncio.sleep(0.05)
        assert "the HTTP process hangs: no heartbeat" in loop.failure
        while not [one for one in processes.all if one.pid != first.pid]:
            await asyncio.sleep(0.05)
        assert "another one is started" in loop.last_failure
        assert (await answered(port)).status == 200
        assert [one.pid for one in processes.all] != [first.pid]
        while loop.failure:
            await asyncio.sleep(0.05)


async def test_one_that_continues_is_kept() -> None:
    """A short time without a heartbeat is reported until the next one."""
    loops = Loops(SystemClock())
    async with a_watched_one(FakeDaemon(), free_port(), loops) as processes, asyncio.timeout(60):
        (first,) = processes.all
        while not loops.running:
            await asyncio.sleep(0)
        (loop,) = loops.running
        os.kill(first.pid, signal.SIGSTOP)
        while not loop.failure:
            await asyncio.sleep(0.01)
        os.kill(first.pid, signal.SIGCONT)
        while loop.failure:
            await asyncio.sleep(0.05)
        assert [one.pid for one in processes.all] == [first.pid]


@pytest.mark.parametrize("full", ["refuses", "is silent"])
async def test_heartbeats_arrive_while_one_connection_is_full(full: str) -> None:
    """The daemon may refuse further requests there: the process does not hang, and is not replaced."""
    heartbeats = asyncio.Semaphore(0)
    refusal = Unavailable("512 requests are in flight on this connection already")

    async def attend(sock: socket.socket, probes: bool) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(wire.encode(wire.HELLO))
        decoder, reply, count = wire.Decoder(), {"cors_origins": "", "enabled": True}, 0
        try:
            while data := await reader.read(1 << 16):
                for frame in decoder.feed(data):
                    if not isinstance(frame, wire.Request):
                        continue
                    count += 1
                    error = None if probes or count <= 2 else refusal
                    if error is None or full == "refuses":
                        writer.write(wire.encode(wire.Response(frame.id, error, reply)))
                    if probes and count > 1:
                        heartbeats.release()
        finally:
            writer.close()

    pairs = [socket.socketpair() for _ in range(2)]
    for sock in (sock for pair in pairs for sock in pair):
        sock.setblocking(False)
    first, second = [ours for ours, _ in pairs]
    attending = [
        asyncio.create_task(attend(first, True)),
        asyncio.create_task(attend(second, False)),
    ]
    listening = await bind("127.0.0.1", 0)
    connected = [theirs for _, theirs in pairs]
    options = Options(connected=connected, listening=[listening], heartbeat=0.2)
    start = started({}, os.getpid())
    running = asyncio.create_task(run(options, start, Notifier({}), SystemClock()))
    try:
        async with asyncio.timeout(30):
            for _ in range(3):
                await heartbeats.acquire()
    finally:
        for task in attending:
            task.cancel()
        await asyncio.wait((*attending, running))  # it ends with the daemon
        listening.close()


async def test_it_greets_the_daemon_on_both_connections_at_once(tmp_path: Path) -> None:
    """The daemon disconnects silent clients, and a probe may arrive an hour later."""
    greeted = asyncio.Semaphore(0)

    async def attend(sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(wire.encode(wire.HELLO))
        decoder, reply = wire.Decoder(), {"cors_origins": "", "enabled": True}
        try:
            while data := await reader.read(1 << 16):
                for frame in decoder.feed(data):
                    if isinstance(frame, wire.Request):
                        writer.write(wire.encode(wire.Response(frame.id, None, reply)))
                    elif frame == wire.HELLO:
                        greeted.release()
        finally:
            writer.close()

    pairs = [socket.socketpair() for _ in range(2)]
    for sock in (sock for pair in pairs for sock in pair):
        sock.setblocking(False)
    attending = [asyncio.create_task(attend(ours)) for ours, _ in pairs]
    listening = await bind("127.0.0.1", 0)
    options = Options(connected=[theirs for _, theirs in pairs], listening=[listening])
    start = started({}, os.getpid())
    running = asyncio.create_task(run(options, start, Notifier({}), SystemClock()))
    try:
        async with asyncio.timeout(10):
            for _ in pairs:
                await greeted.acquire()
    finally:
        for task in attending:
            task.cancel()
        await asyncio.wait((*attending, running))  # it ends with the daemon
        listening.close()


async def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    """By the daemon, which ends with the exit code of a conflict."""
    daemon = Daemon(tmp_path, engine="simulator")
    with socket.create_server(("127.0.0.1", daemon.port)):
        done = await asyncio.to_thread(
            subprocess.run,
            daemon.command,
            env=daemon.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=Path(__file__).parent.parent.parent,
        )
    assert done.returncode == 5, done
    assert f"port {daemon.port} on 127.0.0.1 is in use" in done.stderr
    assert "http.port" in done.stderr


# --- under systemd ----------------------------------------------------------------------------------

_AS_SYSTEMD = """
import os, sys
os.dup2(int(os.environ["FD"]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": os.environ["FD_NAME"]}
os.execv(sys.executable, [sys.executable, "-m", *os.environ["RUN"].split()])
"""


class Units:
    """Two sockets that the test holds as systemd does, and the processes on them."""

    def __init__(self, directory: Path) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.tcp.getsockname()[1]
        self.path = directory / "http.sock"
        self.calls = socket.socket(socket.AF_UNIX)
        self.calls.bind(str(self.path))
        self.calls.listen(1024)
        given = {"FD": str(self.calls.fileno()), "FD_NAME": "http-rpc", "RUN": "wad run"}
        self.daemon = Daemon(directory / "wad", given, engine="simulator")
        self.daemon.command = [sys.executable, "-c", _AS_SYSTEMD]
        self.daemon.passed = (self.calls.fileno(),)
        self.http: subprocess.Popen[bytes] | None = None

    def start_http(self) -> None:
        """As wad-http.service: another process, which has only the path of the socket."""
        environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        run = f"wad.http --socket {self.path}"
        self.http = subprocess.Popen(
            [sys.executable, "-c", _AS_SYSTEMD],
            env={**environ, "FD": str(self.tcp.fileno()), "FD_NAME": "http", "RUN": run},
            pass_fds=(self.tcp.fileno(),),
            cwd=Path(__file__).parent.parent.parent,
        )

    async def end_http(self, how: signal.Signals) -> int:
        """Stop it, or kill it."""
        assert self.http is not None
        self.http.send_signal(how)
        return await asyncio.to_thread(self.http.wait, 30)

    def close(self) -> None:
        """Nothing runs any more."""
        for process in (self.http, self.daemon.process):
            if process is not None:
                process.kill()
                process.wait()
        self.tcp.close()
        self.calls.close()


@asynccontextmanager
async def units(directory: Path) -> AsyncIterator[Units]:
    """Both run."""
    found = Units(directory)
    try:
        await found.daemon.start()
        found.start_http()
        yield found
    finally:
        found.close()


class Probes:
    """Twenty probes a second, and their results."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._asking: list[asyncio.Task[Reply]] = []
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self._asking.append(asyncio.create_task(ask(self._port, "/health")))
            await asyncio.sleep(0.05)

    async def end(self) -> list[int]:
        """The statuses of all."""
        self._task.cancel()
        return [(await each).status for each in self._asking]


async def test_restarts_of_the_daemon_cost_no_probe_an_error(tmp_path: Path) -> None:
    """Each is answered by the old or by the new daemon."""
    async with units(tmp_path) as found:
        await ask(found.port, "/health")
        probes = Probes(found.port)
        for _ in range(3):
            assert await found.daemon.end() == 0
            await found.daemon.start()
        statuses = await probes.end()
    assert set(statuses) == {200}


async def test_restarts_of_the_http_process_cost_no_probe_an_error(tmp_path: Path) -> None:
    """Another process holds its socket, and it answers the requests that it has begun."""
    async with units(tmp_path) as found:
        await ask(found.port, "/health")
        probes = Probes(found.port)
        for _ in range(3):
            assert await found.end_http(signal.SIGINT) == 0
            found.start_http()
            await process_of(found.daemon)  # it answers, and so has a handler for the signal
        statuses = await probes.end()
        assert set(statuses) == {200}
        await found.end_http(signal.SIGKILL)
        found.start_http()
        assert (await ask(found.port, "/health")).status == 200


async def test_it_starts_without_the_daemon(tmp_path: Path) -> None:
    """It reports that the daemon does not answer; it sends no requests of its own."""
    found = Units(tmp_path)
    try:
        found.start_http()
        reply = await ask(found.port, "/health")
        assert (reply.status, reply.document["error"]) == (503, "daemon_unreachable")
        assert reply.document["since"] is None
        assert (await ask(found.port, "/openapi.json")).status == 200
    finally:
        found.close()


async def test_it_has_no_rights_of_its_own_on_the_daemons_socket(tmp_path: Path) -> None:
    """A client of that socket has only the rights of its tokens, also as root or as the daemon's user."""
    from wad.core import wire

    async with units(tmp_path) as found:
        reader, writer = await asyncio.open_unix_connection(str(found.path))
        writer.write(wire.encode(wire.HELLO))
        asked = [
            ("status", [{}, []]),
            ("accounts.add", [{"name": "x"}, []]),
            ("accounts.add", [{"name": "x"}, ["guess"]]),
            ("events", [{}, []]),
            ("media.put", [{}, []]),
            ("contract.accounts", [{}, [None, "", "127.0.0.1"]]),
            ("status", {}),
        ]
        for number, (name, params) in enumerate(asked, 1):
            writer.write(wire.encode(wire.Request(number, name, params)))
        decoder, errors = wire.Decoder(), dict[int, str]()
        async with asyncio.timeout(30):
            while len(errors) < len(asked):
                for frame in decoder.feed(await reader.read(1 << 16)):
                    if isinstance(frame, wire.Response):
                        assert frame.error is not None, asked[frame.id - 1]
                        errors[frame.id] = frame.error.code
        writer.close()
    assert [errors[number] for number in sorted(errors)] == [
        "missing_auth_token",
        "missing_auth_token",
        "unauthorized",
        "denied",
        "denied",
        "missing_auth_token",
        "bad_input",
    ]
