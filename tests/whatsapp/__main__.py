"""A WhatsApp test server for manual use: `python -m tests.whatsapp`.

It prints the environment for a process, and reads commands from standard input, one per line; `help` lists them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys

from tests.whatsapp import WhatsApp
from tests.whatsapp.console import Console


async def serve(port: int, *, as_json: bool) -> None:
    """Serve until standard input ends."""
    async with WhatsApp(port) as server:
        environment = server.environment()
        if as_json:
            print(json.dumps(environment), flush=True)
        else:
            print("# A process that should take this server for WhatsApp needs:")
            for name, value in environment.items():
                print(f"export {name}={shlex.quote(value)}")
            print(
                "# Commands, one a line (help lists them; the end of input ends the server):",
                flush=True,
            )
        console = Console(server)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if not line.strip():
                continue
            try:
                answer = await console.run(line)
            except (ValueError, ConnectionError, TimeoutError) as error:
                answer = {"error": str(error)}
            if as_json or not isinstance(answer, list):
                print(json.dumps(answer), flush=True)
            else:
                print(*answer, sep="\n", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.whatsapp", description=__doc__)
    parser.add_argument(
        "--port", type=int, default=0, help="the port on 127.0.0.1 (default: a free one)"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each answer")
    given = parser.parse_args()
    asyncio.run(serve(given.port, as_json=given.json))


if __name__ == "__main__":
    main()
