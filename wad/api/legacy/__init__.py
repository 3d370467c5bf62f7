"""The documents of the backend that wad replaces, as its apps read them (docs/internals/replaced-backend.md#routes).

The handlers of `wad.api.operations.legacy`.  They run in the daemon, read its live objects and know nothing of HTTP;
a refusal is a `Refusal` with the contract's status and code.
"""
