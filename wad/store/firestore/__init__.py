"""Firestore, for an installation on several machines: the lease's record and the store.

`client`, `reading`, `listening`, `commit` and `check` alone know Google's library, and `http` what lies behind it;
nothing imports it before it is needed.

    store     the embedded store as a working copy (`replica`), and what keeps it and Firestore alike
    capture   what is to be told; documents, fields, outbox_fields: as which documents; teller: tells it
    fetcher   what other machines told (`told`); intake: what functions queued; copy: from the embedded store, once
    aside     what could not be handled, in the replica; quarantine: what an operator does with it
    machines  which machines write here, and which of them have one name or one id
    lease     the record (`record`), the fence, where sessions lie (`places`)
"""
