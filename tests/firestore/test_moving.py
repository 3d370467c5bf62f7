"""A session moves between two machines: the real command, the real library, the real emulator."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.firestore.daemons import a_machine
from tests.whatsapp import WhatsApp
from wad.store.firestore.client.access import FirestoreAccess

pytestmark = pytest.mark.timeout(180)


async def test_it_connects_on_the_other_machine_without_a_code(
    tmp_path: Path, access: FirestoreAccess
) -> None:
    """Exported there, imported here, the phone sees the same device; the first machine shows its new location."""
    key, file = tmp_path / "wad.key", tmp_path / "shop.session"
    key.write_bytes(b"0123456789abcdef")
    async with WhatsApp() as server:
        phone = server.add_account("15550000001", name="Shop").phone
        environ = server.environment()
        async with (
            a_machine(tmp_path, access, "a", engine="neonize", environ=environ) as a,
            a_machine(tmp_path, access, "b", engine="neonize", environ=environ) as b,
        ):
            await a.daemon.start()
            await a.until_mode("active")
            await a.daemon.call("accounts.add", name="shop", phone="+15550000001")
            await phone.scan(await a.daemon.qr("shop"))
            await a.daemon.wait_state("shop", "connected")
            arguments = ("session", "export", "shop", str(file), "--key-file", str(key), "--yes")
            refused = await a.daemon.wadctl(*arguments)
            assert refused.returncode == 5
            assert "its session is in use" in refused.stderr
            assert not file.exists()

            await b.daemon.start()
            await b.until_holder("a")
            await a.daemon.call("lease.release", seconds=600)
            await b.until_mode("active")
            (shown,) = await b.daemon.call("accounts.list")
            assert (shown["state"], shown["qr"]) == ("elsewhere", None)
            assert shown["reason"].startswith("its session is on a, since ")

            await a.daemon.wait_state("shop", "passive")
            done = await a.daemon.wadctl(*arguments)
            assert done.returncode == 0, done
            again = await a.daemon.wadctl(*arguments)
            assert again.returncode != 0
            done = await b.daemon.wadctl("session", "import", str(file), "--key-file", str(key))
            assert done.returncode == 0, done
            await b.daemon.wait_state("shop", "connected")
            assert await b.daemon.end(signal.SIGINT) == 0
            await a.until_holder(None)
            await a.daemon.call("lease.take")
            await a.until_mode("active")
            shown = await a.daemon.wait_state("shop", "elsewhere")
            assert shown["reason"].startswith("its session is on b, since ")
