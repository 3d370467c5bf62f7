"""Translation of a Baileys session directory to a session of the library: pure, no I/O.

values.py       a JSON value read with bounds, and the one error that this can raise
device.py       creds.json: the device's identity, and its own keys
small_files.py  data about others: identities, LID mappings, tokens; pre-keys and app-state keys
ratchets.py     Signal sessions and sender keys, from libsignal-node's form to libsignal-protocol-go's
translation.py  all files: what is converted, what is not and why
"""
