"""The handlers of `wad.api.operations.legacy`: replies in the format of the replaced backend.

Its apps read them (docs/internals/replaced-backend.md#routes).  The handlers run in the daemon, without HTTP; an
error is a `LegacyRefusal` with the replaced backend's status and code.
"""
