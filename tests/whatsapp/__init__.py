"""A WhatsApp server for tests: the real protocol for the real library, on 127.0.0.1.

    async with WhatsApp() as server:
        account = server.add_account("15550000001", name="Shop")
        bob = server.add_peer("15550000002", name="Bob")
        environ = server.environment()          # for the process under test
        await account.phone.scan(qr)            # the QR code that it shows; or enter_code(code)
        await bob.send_text(account, "hello")
        await bob.received(account, text="hi")
        await server.ledger.settled(account)    # everything was receipted
        assert server.errors == []

Where things are:

    peers.py     what a peer sends: files, replies, reactions, edits, polls, calls; contents.py: the rest, for send()
    people.py    addresses (LID, PN, both), receipts, an inbox; groups.py and newsletters.py: where they write
    phone.py     what an account's own phone does: links, writes, reads, sends history and app state
    account.py   its devices and connections, and the server's faults for it; server.py: for all
    ledger.py    the record of all traffic
    driver.py    a process with the bare library, for tests of the server itself

Facts of the protocol and their sources: the docstrings, which name sections of `docs/internals/whatsapp-protocol.md`.
`python -m tests.whatsapp` runs one for manual use.
"""

from tests.whatsapp.account import Account as Account
from tests.whatsapp.account import Failure as Failure
from tests.whatsapp.groups import Group as Group
from tests.whatsapp.inbox import Received as Received
from tests.whatsapp.peers import Peer as Peer
from tests.whatsapp.server import WhatsApp as WhatsApp
