"""A Baileys session directory becomes a session of the library: pure translation, no I/O.

values.py       a JSON value read with bounds, and the one error that can come of it
device.py       creds.json: who the device is, and its own keys
people.py       what is known of others: identities, LID mappings, tokens; pre-keys and app-state keys
ratchets.py     Signal sessions and sender keys, from libsignal-node's form to libsignal-protocol-go's
translation.py  all files: what is carried, what is not and why
"""
