"""Firestore, for an installation on several machines: the store and the lease.

Only `client/` uses Google's library; nothing imports it before it is needed.

    store.py    the Firestore store: the embedded store as a working copy, synced with Firestore
    copy.py     the one-time copy of an embedded store to Firestore
    client/     Google's library: opening, calls, commits, listening, decoding
    documents/  rows and facts as Firestore's documents, and back; legacy documents
    sync/       the working copy, its change log, push, pull, outbox listener, quarantine, machines
    lease/      the lease record, the fence, the session registry
"""
