"""The schema of wad.db, as a list of steps; a database's `user_version` says how many it has taken.

A step is never edited once it was released; a new one is appended.
"""

from __future__ import annotations

from typing import Final

_FIRST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- Rows lie in the order of arrival: their ids are hashes, and a table kept in that order would write all over the file.
CREATE TABLE messages (
    id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, thread TEXT NOT NULL, chat TEXT NOT NULL, sender TEXT NOT NULL,
    from_me INTEGER NOT NULL, at_ms INTEGER NOT NULL, seen INTEGER NOT NULL, wa_id TEXT NOT NULL,
    status TEXT NOT NULL, push_name TEXT NOT NULL, client_id TEXT NOT NULL, stable_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL, content BLOB NOT NULL
);
CREATE INDEX messages_of_thread ON messages (thread, at_ms, seen, id);
CREATE INDEX messages_by_wa_id ON messages (account, wa_id) WHERE wa_id != '';

CREATE TABLE threads (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, chat TEXT NOT NULL, name TEXT NOT NULL, name_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL, last_seen INTEGER NOT NULL, last_id TEXT NOT NULL, last_text TEXT NOT NULL,
    last_from_me INTEGER NOT NULL,
    unread INTEGER NOT NULL, messages INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX threads_of_account ON threads (account, last_ms, id);
CREATE INDEX threads_newest ON threads (last_ms, id);

CREATE TABLE marks (
    account TEXT NOT NULL, wa_id TEXT NOT NULL, party TEXT NOT NULL, mark TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (account, wa_id, party, mark)
) WITHOUT ROWID;

CREATE TABLE aliases (
    account TEXT NOT NULL, lid TEXT NOT NULL, pn TEXT NOT NULL, PRIMARY KEY (account, lid)
) WITHOUT ROWID;

CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of enqueuing
    id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, state TEXT NOT NULL, created_ms INTEGER NOT NULL,
    wa_id TEXT NOT NULL, entry BLOB NOT NULL
);
CREATE INDEX outbox_waiting ON outbox (account, state, number);
CREATE INDEX outbox_of_account ON outbox (account, created_ms, id, state);
CREATE INDEX outbox_newest ON outbox (created_ms, id, state);
CREATE INDEX outbox_by_wa_id ON outbox (account, wa_id) WHERE wa_id != '';

CREATE TABLE cursors (account TEXT PRIMARY KEY, generation TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE accounts (account TEXT PRIMARY KEY, status BLOB NOT NULL) WITHOUT ROWID;
"""

STEPS: Final = (_FIRST,)
