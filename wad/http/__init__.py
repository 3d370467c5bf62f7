"""The HTTP process: it answers probes and apps, and asks the daemon over a Unix socket for every one of them.

It owns nothing: no session, no message, no token of its own.  It knows the declared operations and the wire, as
wadctl does, and each call carries the caller's own token.
"""
