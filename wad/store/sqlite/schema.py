"""The schema of wad.db, as a list of steps; a database's `user_version` is the number of steps that were applied.

A released step is never edited; a change is a new step at the end.
"""

from __future__ import annotations

from typing import Final

from wad.lib.sqlite_file import Step
from wad.store.sqlite.unique_indexes import add_unique_indexes

_FIRST: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- Rows are in the order of arrival: ids are hashes, and rows in their order would be written all over the file.
-- `content` is as received, `kind` is its kind; `amended` is the result of edits, reactions and so on, NULL for none.
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL, account TEXT NOT NULL, thread TEXT NOT NULL, chat TEXT NOT NULL, sender TEXT NOT NULL,
    from_me INTEGER NOT NULL, at_ms INTEGER NOT NULL, seen INTEGER NOT NULL, wa_id TEXT NOT NULL,
    status TEXT NOT NULL, push_name TEXT NOT NULL, client_id TEXT NOT NULL, stable_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL, amended BLOB,
    -- Set by `wadctl audit repair`: the document that is the same message and stays, and the time of the marking.
    duplicate_of TEXT NOT NULL DEFAULT '', duplicate_ms INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX messages_of_thread ON messages (thread, at_ms, seen); -- without the id: few rows are equal in these
CREATE INDEX messages_by_hidden_sender ON messages (account, sender) WHERE sender LIKE '%lid';
CREATE INDEX messages_placeholders ON messages (account, kind, at_ms) WHERE kind IN ('lost', 'undecryptable');

-- The tables of wad's own index, which the third step replaces by indexes of SQLite.
CREATE TABLE keys_recent (place INTEGER PRIMARY KEY, keys BLOB NOT NULL);
CREATE TABLE keys_old (place INTEGER PRIMARY KEY, keys BLOB NOT NULL);

-- A row with 0 messages has the facts about a chat before its first message; it is not shown as a thread.
CREATE TABLE threads (
    id TEXT PRIMARY KEY, account TEXT NOT NULL, chat TEXT NOT NULL,
    saved_name TEXT NOT NULL DEFAULT '', saved_ms INTEGER NOT NULL DEFAULT 0,
    push_name TEXT NOT NULL DEFAULT '', push_ms INTEGER NOT NULL DEFAULT 0,
    read_ms INTEGER NOT NULL DEFAULT 0, read_seen INTEGER NOT NULL DEFAULT 0, -- the last read position
    told_unread INTEGER NOT NULL DEFAULT 0, told_ms INTEGER NOT NULL DEFAULT 0, -- the phone's own count, up to told_ms
    expires_s INTEGER NOT NULL DEFAULT 0, expires_ms INTEGER NOT NULL DEFAULT 0,
    last_ms INTEGER NOT NULL DEFAULT 0, last_seen INTEGER NOT NULL DEFAULT 0, last_id TEXT NOT NULL DEFAULT '',
    last_text TEXT NOT NULL DEFAULT '', last_from_me INTEGER NOT NULL DEFAULT 0,
    newer INTEGER NOT NULL DEFAULT 0, older INTEGER NOT NULL DEFAULT 0, -- unread messages after and up to told_ms
    messages INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX threads_of_account ON threads (account, last_ms, id) WHERE messages > 0;
CREATE INDEX threads_newest ON threads (last_ms, id) WHERE messages > 0;

-- Edits, revokes, reactions and votes, whether or not their target is stored; each different version is a row.
CREATE TABLE amendments (
    number INTEGER PRIMARY KEY,
    account TEXT NOT NULL, target TEXT NOT NULL, thread TEXT NOT NULL, kind TEXT NOT NULL, wa_id TEXT NOT NULL,
    party TEXT NOT NULL, from_me INTEGER NOT NULL, at_ms INTEGER NOT NULL, content BLOB NOT NULL,
    digest TEXT NOT NULL -- of the content
);
CREATE UNIQUE INDEX amendments_told
    ON amendments (target, account, thread, kind, party, from_me, wa_id, at_ms, digest);
CREATE INDEX amendments_by_wa_id ON amendments (account, wa_id) WHERE wa_id != '';
CREATE INDEX amendments_by_hidden_party ON amendments (account, party) WHERE party LIKE '%lid';
CREATE INDEX amendments_by_hidden_thread ON amendments (thread) WHERE thread LIKE '%lid';

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

# Chats take turns (queue.py): `thread` is the entry's chat, `turn` its position in the account's queue.
_TURNS: Final = """
ALTER TABLE outbox ADD COLUMN thread TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_turns ON outbox (account, turn, number, thread) WHERE state = 'queued';
CREATE INDEX outbox_of_chat ON outbox (account, thread, turn);
"""

# A receipt counts for messages of its own chat only; `thread` is empty for receipts of an older wad: they count in all.
# `lid_chat` and `lid_sender`: wad.core.message.Message.
_CHATS_OF_RECEIPTS: Final = """
ALTER TABLE marks RENAME TO older_marks;
CREATE TABLE marks (
    account TEXT NOT NULL, wa_id TEXT NOT NULL, thread TEXT NOT NULL, party TEXT NOT NULL, mark TEXT NOT NULL,
    at_ms INTEGER NOT NULL, PRIMARY KEY (account, wa_id, thread, party, mark)
) WITHOUT ROWID;
INSERT INTO marks SELECT account, wa_id, '', party, mark, at_ms FROM older_marks;
DROP TABLE older_marks;
CREATE INDEX marks_by_hidden_thread ON marks (thread) WHERE thread LIKE '%lid';
ALTER TABLE messages ADD COLUMN lid_chat TEXT NOT NULL DEFAULT '';
ALTER TABLE messages ADD COLUMN lid_sender TEXT NOT NULL DEFAULT '';
CREATE TABLE hidden_names ( -- messages that mention or quote a LID whose number is not known: addresses.py
    account TEXT NOT NULL, lid TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (account, lid, number)
) WITHOUT ROWID;
"""

# `at_ms`: when an alias was last reported (aliases.py), 0 for those of an older wad.
_NUMBERS: Final = """
ALTER TABLE aliases ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX aliases_by_number ON aliases (account, pn);

-- Other numbers of persons (numbers.py); `person` is a LID or a number, `asked` whether WhatsApp named them when asked.
CREATE TABLE numbers (
    account TEXT NOT NULL, number TEXT NOT NULL, person TEXT NOT NULL, at_ms INTEGER NOT NULL, asked INTEGER NOT NULL,
    PRIMARY KEY (account, number)
) WITHOUT ROWID;
"""

STEPS: Final[tuple[Step, ...]] = (_FIRST, _TURNS, add_unique_indexes, _CHATS_OF_RECEIPTS, _NUMBERS)
