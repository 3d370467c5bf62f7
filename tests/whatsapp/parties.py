"""Parsing of persons, accounts and groups in console commands."""

from __future__ import annotations

from tests.whatsapp.account import Account
from tests.whatsapp.groups import Group
from tests.whatsapp.peers import Peer
from tests.whatsapp.people import Person
from tests.whatsapp.server import WhatsApp


class Parties:
    """Finds persons, accounts and groups by name or number.  Each method raises ValueError if not found."""

    def __init__(self, server: WhatsApp) -> None:
        self._server = server

    def _account(self, name: str) -> Account:
        for account in self._server.accounts:
            if name in (account.name, account.pn.user):
                return account
        raise ValueError(f"unknown account {name!r}")

    def _peer(self, name: str) -> Peer:
        for peer in self._server.peers:
            if name in (peer.name, peer.pn.user):
                return peer
        raise ValueError(f"unknown peer {name!r}")

    def _person(self, name: str) -> Person:
        accounts = [account.phone for account in self._server.accounts]
        for person in (*self._server.peers, *accounts):
            if name in (person.name, person.pn.user):
                return person
        raise ValueError(f"unknown person {name!r}")

    def _group(self, name: str) -> Group | None:
        groups = self._server.groups.values()
        return next((group for group in groups if name in (group.subject, group.jid.user)), None)

    def _chat(self, name: str) -> Account | Group:
        return self._group(name) or self._account(name)

    def _author(self, name: str) -> Person | None:
        return self._person(name) if name else None

    def _some_group(self, name: str) -> Group:
        group = self._group(name)
        if group is None:
            raise ValueError(f"unknown group {name!r}")
        return group
