"""The HTTP process: serves probes and apps, and calls the daemon over a Unix socket for each request.

It has no sessions, messages or tokens of its own.  It uses the declared operations and the socket protocol, as wadctl
does, and each call carries the caller's token.
"""
