"""The commands of the test server for manual use: its persons, and what they send.

mishaps.py: faults; crowd.py: all accounts at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.whatsapp import contents
from tests.whatsapp.crowd import Crowd
from tests.whatsapp.history import Conversation, Line
from tests.whatsapp.mishaps import Mishaps
from tests.whatsapp.server import WhatsApp

Command = Callable[..., Awaitable[object]]


class Console(Crowd):
    """Each public method is a command: its docstring is its help, its arguments are words.

    It returns a JSON value, or None.
    """

    def __init__(self, server: WhatsApp) -> None:
        super().__init__(server)
        self.commands: dict[str, Command] = {
            name: getattr(self, name)
            for kind in (Console, Crowd, Mishaps)
            for name in vars(kind)
            if not name.startswith("_") and name != "run"
        }

    async def run(self, line: str) -> object:
        """Run one line.  Raises ValueError for an invalid one."""
        name, *words = shlex.split(line)
        if name not in self.commands:
            raise ValueError(f"unknown command {name!r}; try help")
        try:
            return await self.commands[name](*words)
        except (TypeError, KeyError) as error:
            raise ValueError(f"usage: {self.commands[name].__doc__}") from error

    async def help(self) -> object:
        """help: this list"""
        return [(command.__doc__ or "").strip() for command in self.commands.values()]

    # --- its persons --------------------------------------------------------------------------

    async def account(self, number: str, name: str = "") -> object:
        """account NUMBER [NAME]: add an account"""
        return str(self._server.add_account(number, name=name).lid)

    async def peer(self, number: str, name: str = "") -> object:
        """peer NUMBER [NAME]: add an ordinary user"""
        return str(self._server.add_peer(number, name=name).lid)

    async def group(self, subject: str, *members: str) -> object:
        """group SUBJECT MEMBER...: add a group; the first member made it"""
        if not members:
            raise KeyError(subject)
        return str(self._server.add_group(subject, *map(self._person, members)).jid)

    async def join(self, group: str, member: str) -> object:
        """join GROUP PERSON: a person joins a group"""
        self._some_group(group).add(self._person(member))
        return "joined"

    async def leave(self, group: str, member: str) -> object:
        """leave GROUP PERSON: a person leaves a group"""
        self._some_group(group).remove(self._person(member))
        return "left"

    # --- an account's phone -------------------------------------------------------------------

    async def scan(self, account: str, qr: str) -> object:
        """scan ACCOUNT QR: the account's phone scans a QR code (its text)"""
        await self._account(account).phone.scan(qr)
        return "scanned"

    async def code(self, account: str, code: str) -> object:
        """code ACCOUNT CODE: the account's phone links the device that shows this code"""
        await self._account(account).phone.enter_code(code)
        return "linked"

    async def write(self, account: str, to: str, *words: str) -> object:
        """write ACCOUNT PEER|GROUP WORDS...: the owner writes on the phone"""
        phone = self._account(account).phone
        return await phone.write_text(self._group(to) or self._peer(to), " ".join(words))

    async def history(self, account: str, peer: str, count: str) -> object:
        """history ACCOUNT PEER COUNT: the phone sends COUNT old messages of a chat"""
        person, now = self._peer(peer), self._server.now()
        lines = [
            Line(
                self._server.next_id(),
                now - 60 * n,
                contents.text(f"old {n}"),
                person if n % 2 else None,
            )
            for n in range(int(count), 0, -1)
        ]
        return await self._account(account).phone.send_history(Conversation(person, lines))

    async def name(self, account: str, *words: str) -> object:
        """name ACCOUNT WORDS...: the account's own name, without which a device cannot send presence"""
        await self._account(account).phone.share_app_state(push_name=" ".join(words))
        return "shared"

    # --- what peers send ----------------------------------------------------------------------

    async def text(self, peer: str, to: str, *words: str) -> object:
        """text PEER ACCOUNT|GROUP WORDS...: a peer writes"""
        return await self._peer(peer).send_text(self._chat(to), " ".join(words))

    async def reply(self, peer: str, to: str, ident: str, text: str, author: str = "") -> object:
        """reply PEER ACCOUNT|GROUP ID TEXT [AUTHOR]: a peer answers a message"""
        by = self._author(author)
        return await self._peer(peer).reply(self._chat(to), ident, text, by=by)

    async def file(self, peer: str, to: str, kind: str, path: str, caption: str = "") -> object:
        """file PEER ACCOUNT|GROUP image|video|audio|document|sticker PATH [CAPTION]: a peer sends a file"""
        data, name = Path(path).read_bytes(), Path(path).name
        return await self._peer(peer).send_file(
            self._chat(to), kind, data, caption=caption, name=name
        )

    async def place(self, peer: str, to: str, latitude: str, longitude: str) -> object:
        """place PEER ACCOUNT|GROUP LATITUDE LONGITUDE: a peer sends a place"""
        content = contents.location(float(latitude), float(longitude))
        return await self._peer(peer).send(self._chat(to), content)

    async def contact(self, peer: str, to: str, name: str, number: str) -> object:
        """contact PEER ACCOUNT|GROUP NAME NUMBER: a peer sends a contact"""
        return await self._peer(peer).send(self._chat(to), contents.contact(name, number))

    async def react(self, peer: str, to: str, ident: str, emoji: str, author: str = "") -> object:
        """react PEER ACCOUNT|GROUP ID EMOJI [AUTHOR]: a peer reacts; "" takes it back"""
        by = self._author(author)
        return await self._peer(peer).react(self._chat(to), ident, emoji, by=by)

    async def edit(self, peer: str, to: str, ident: str, *words: str) -> object:
        """edit PEER ACCOUNT|GROUP ID WORDS...: a peer changes its message"""
        return await self._peer(peer).edit(self._chat(to), ident, " ".join(words))

    async def revoke(self, peer: str, to: str, ident: str) -> object:
        """revoke PEER ACCOUNT|GROUP ID: a peer deletes its message for everyone"""
        return await self._peer(peer).revoke(self._chat(to), ident)

    async def poll(self, peer: str, to: str, question: str, *options: str) -> object:
        """poll PEER ACCOUNT|GROUP QUESTION OPTION...: a peer asks"""
        return await self._peer(peer).poll(self._chat(to), question, options)

    async def vote(self, peer: str, account: str, ident: str, *options: str) -> object:
        """vote PEER ACCOUNT ID [OPTION...]: a peer votes in the account's poll"""
        return await self._peer(peer).vote(self._account(account), ident, *options)

    async def status(self, peer: str, *words: str) -> object:
        """status PEER WORDS...: a peer posts a status"""
        person = self._peer(peer)
        return await person.send_text(self._server.status_of(person), " ".join(words))

    async def call(self, peer: str, account: str) -> object:
        """call PEER ACCOUNT: a peer calls"""
        return self._peer(peer).call(self._account(account))

    async def typing(self, peer: str, account: str) -> object:
        """typing PEER ACCOUNT: a peer lets the account see that it writes"""
        self._peer(peer).show_typing(self._account(account))
        return "shown"

    async def receipt(self, peer: str, account: str, ident: str, kind: str = "read") -> object:
        """receipt PEER ACCOUNT ID [KIND]: a peer says what became of a message; server-error is fatal to the library"""
        await self._peer(peer).send_receipt(self._account(account), ident, kind)
        return "sent"

    async def inbox(self, peer: str) -> object:
        """inbox PEER: what accounts sent to a peer"""
        return [
            {"from": m.account.name, "id": m.ident, "text": m.text, "group": str(m.group or "")}
            for m in self._peer(peer).inbox
        ]

    async def ledger(self) -> object:
        """ledger: what passed"""
        return self._server.ledger.as_json()
