"""The working copy and Firestore are kept alike: push, pull, the listener on the outbox, quarantine."""
