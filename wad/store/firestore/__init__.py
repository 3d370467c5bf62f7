"""Firestore, for an installation on several machines: the lease's record and the store.

`client` is the only module that imports the library; nothing imports it before a Firestore is opened.
"""
