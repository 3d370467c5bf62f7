"""Health probes like a monitor's: each on a separate connection, at a fixed rate."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Final

DROPPED: Final = "the connection was closed without an answer"
_TIMEOUT: Final = 10.0


class Probes:
    """Probes for as long as the block runs; `errors` has a line for each without a 200."""

    def __init__(
        self, host: str, port: int, per_second: float, tls: tuple[ssl.SSLContext, str] | None = None
    ) -> None:
        """`tls`: the trusted certificates, and the name of the server."""
        self._host = host
        self._port = port
        self._pause = 1 / per_second
        self._tls = tls
        self._running: asyncio.Task[None] | None = None
        self.errors: list[str] = []
        self.answered = 0

    async def __aenter__(self) -> Probes:
        self._running = asyncio.create_task(self._probe())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.wait([self._running])

    async def more(self, number: int) -> None:
        """Wait until `number` more probes have ended, with an answer or an error."""
        wanted = self.answered + len(self.errors) + number
        while self.answered + len(self.errors) < wanted:
            await asyncio.sleep(self._pause)

    async def _probe(self) -> None:
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    group.create_task(self._one())
                    await asyncio.sleep(self._pause)
            except asyncio.CancelledError:
                return  # the group waits for pending probes

    async def _one(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                status = await self._ask()
        except (OSError, TimeoutError, ValueError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            return
        self.answered += 1
        if status != 200:
            self.errors.append(f"status {status}")

    async def _ask(self) -> int:
        context, name = self._tls or (None, None)
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=context, server_hostname=name
        )
        try:
            writer.write(
                f"GET /health HTTP/1.1\r\nhost: {name or 'probe'}\r\nconnection: close\r\n\r\n".encode()
            )
            head = await reader.readline()
            await reader.read()
            if not head:
                raise ValueError(DROPPED)
            return int(head.split()[1])
        finally:
            writer.close()
