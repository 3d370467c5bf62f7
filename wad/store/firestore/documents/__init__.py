"""Documents in Firestore: built from rows, and decoded into events.  Pure."""
