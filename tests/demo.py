"""The main job, shown: two accounts are paired by QR code, receive, store, answer, are killed, and have lost nothing.

    make demo           stays up afterwards, to look around
    make demo ONCE=1    ends by itself; the last line is JSON

Everything is real but WhatsApp itself: the daemon, its worker processes, the library in them, `wadctl`.  WhatsApp is
the test server of tests/whatsapp, on 127.0.0.1; it plays the phones, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.daemons import Daemon
from tests.whatsapp import Account, Peer, WhatsApp

ACCOUNTS = {"shop": "15550000001", "support": "15550000002"}
PEERS = {"Ana": "15550000011", "Bob": "15550000012", "Cleo": "15550000013"}
ROUNDS = 8  # messages that each peer sends to each account


def say(text: str = "") -> None:
    """Print one line."""
    print(text, flush=True)


async def pair(daemon: Daemon, name: str, account: Account) -> None:
    """`wadctl account pair`, with the phone looking at the screen."""
    await daemon.wadctl_json("account", "add", name, "--phone", f"+{account.pn.user}")
    say(f"$ wadctl account pair {name}")
    asking = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wadctl", "account", "pair", name, env=daemon.environ, stdin=subprocess.DEVNULL
    )  # fmt: skip
    shown = await daemon.wait_account(name, lambda shown: shown["qr"], "a QR code")
    await account.phone.scan(shown["qr"])
    assert await asyncio.wait_for(asking.wait(), 30) == 0
    await daemon.wait_state(name, "connected")


async def everybody_writes(
    server: WhatsApp, accounts: dict[str, Account], peers: list[Peer], rounds: range
) -> None:
    """Each peer writes to each account in turn."""
    for number in rounds:
        for account in accounts.values():
            for peer in peers:
                await peer.send_text(account, f"{peer.name}: message {number}")
    for account in accounts.values():
        await server.ledger.settled(account, timeout=30)


async def answer_all(daemon: Daemon, name: str, answered: set[str]) -> None:
    """Answer each stored message once; some by the command line, the rest over the socket."""
    for message in await daemon.messages(name):
        if message["direction"] == "outbound" or message["id"] in answered:
            continue
        answered.add(message["id"])
        to = message["thread"].partition("__")[2]
        text, key = f"Thank you for '{message['text']}'", f"answer-{message['id']}"
        if len(answered) % 10 == 1:
            done = await daemon.wadctl("send", name, to, text, "--client-id", key)
            assert done.returncode == 0, done
        else:
            await daemon.call("messages.send", account=name, to=to, text=text, client_id=key)


async def all_sent(daemon: Daemon, name: str) -> None:
    """Until nothing is queued or being sent."""
    async with asyncio.timeout(60):
        while (await daemon.call("outbox.list", account=name, state="queued,sending"))["entries"]:
            await asyncio.sleep(0.05)


async def audit(
    daemon: Daemon, server: WhatsApp, accounts: dict[str, Account], peers: list[Peer]
) -> dict[str, Any]:
    """Hold wad's store against the server's ledger."""
    lost = duplicates = received = sent = repeated = unread = 0
    for name, account in accounts.items():
        stored = await daemon.messages(name)
        inbound = Counter(m["wa_id"] for m in stored if m["direction"] == "inbound")
        wanted = {entry.ident for entry in server.ledger.sent_to(account)}
        lost += len(wanted - set(inbound))
        received += len(wanted & set(inbound))
        duplicates += sum(inbound.values()) - len(inbound)
        outbound = {m["wa_id"] for m in stored if m["direction"] == "outbound"}
        arrived = Counter(r.ident for peer in peers for r in peer.inbox if r.account is account)
        sent += len(outbound & set(arrived))
        unread += len(outbound - set(arrived))
        texts = Counter(
            (peer.name, r.text) for peer in peers for r in peer.inbox if r.account is account
        )
        repeated += sum(count - 1 for count in texts.values())
    return {
        "received": received, "sent": sent, "lost": lost, "duplicates": duplicates, "repeated": repeated,
        "unsent": unread, "accounts": len(accounts), "server_errors": len(server.errors),
    }  # fmt: skip


async def show(daemon: Daemon, *arguments: str) -> None:
    """Run wadctl and print what it says."""
    say(f"$ wadctl {shlex.join(arguments)}")
    done = await daemon.wadctl(*arguments)
    say(done.stdout + done.stderr)


async def run(directory: Path, *, once: bool) -> int:
    """The whole demo; the exit code."""
    begun = time.monotonic()
    async with WhatsApp() as server:
        accounts = {
            name: server.add_account(number, name=name) for name, number in ACCOUNTS.items()
        }
        peers = [server.add_peer(number, name=name) for name, number in PEERS.items()]
        daemon = Daemon(directory, server.environment())
        say(f"A WhatsApp test server listens on 127.0.0.1; wad keeps its state in {directory}.")
        say(f"wad is ready after {await daemon.start():.2f} s.\n")
        try:
            for name, account in accounts.items():
                await pair(daemon, name, account)
            say(
                f"\n{len(peers)} contacts write to {len(accounts)} accounts; every message is answered."
            )
            answered: dict[str, set[str]] = {name: set() for name in accounts}
            half = ROUNDS // 2
            await everybody_writes(server, accounts, peers, range(half))
            await answer_everywhere(daemon, server, accounts, answered)
            await killed(daemon)
            await everybody_writes(server, accounts, peers, range(half, ROUNDS))
            await answer_everywhere(daemon, server, accounts, answered)
            await asyncio.sleep(0.5)  # the last delivery receipts
            await show(daemon, "status")
            await show(daemon, "threads")
            await show(daemon, "messages", "shop", f"+{PEERS['Bob']}", "--limit", "6")
            result = await audit(daemon, server, accounts, peers)
            ok = not any(
                result[name]
                for name in ("lost", "duplicates", "repeated", "unsent", "server_errors")
            )
            if not once:
                await look_around(daemon)
        finally:
            if daemon.process is not None:
                await daemon.end()
    say(json.dumps({"ok": ok, **result, "seconds": round(time.monotonic() - begun, 1)}))
    return 0 if ok else 1


async def answer_everywhere(
    daemon: Daemon, server: WhatsApp, accounts: dict[str, Account], answered: dict[str, set[str]]
) -> None:
    """Wait until all that was sent is stored, answer it, wait until the answers have left."""
    for name, account in accounts.items():
        wanted = {entry.ident for entry in server.ledger.sent_to(account)}
        async with asyncio.timeout(60):
            while not wanted <= {message["wa_id"] for message in await daemon.messages(name)}:
                await asyncio.sleep(0.05)
        await answer_all(daemon, name, answered[name])
        await all_sent(daemon, name)


async def killed(daemon: Daemon) -> None:
    """kill -9, first a worker, then the daemon; no code is scanned again."""
    pid = (await daemon.account("shop"))["worker"]["pid"]
    say(f"\nkill -9 of the worker of 'shop' (pid {pid}), then of the daemon itself.")
    os.kill(pid, signal.SIGKILL)
    await daemon.wait_account(
        "shop", lambda shown: (shown["worker"] or {}).get("pid") not in (None, pid), "a worker"
    )
    await daemon.wait_state("shop", "connected")
    await daemon.end(signal.SIGKILL)
    await daemon.start()
    for name in ACCOUNTS:
        await daemon.wait_state(name, "connected")
    say("Both accounts are connected again, without a QR code.\n")


async def look_around(daemon: Daemon) -> None:
    """Stay up until Ctrl-C."""
    say("It stays up until Ctrl-C.  In another terminal:\n")
    say(f"  export WAD_STATE_DIR={daemon.state}")
    say(f"  {Path(sys.executable).parent}/wadctl status")
    say(f"  {Path(sys.executable).parent}/wadctl send shop +{PEERS['Ana']} 'hello Ana'")
    say(f"  {Path(sys.executable).parent}/wadctl events --follow")
    say(f"  curl -s http://127.0.0.1:{daemon.port}/health\n")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end by itself")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wad-demo-") as directory:
        return asyncio.run(run(Path(directory), once=given.once))


if __name__ == "__main__":
    sys.exit(main())
