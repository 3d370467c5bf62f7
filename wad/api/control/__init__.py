"""The Unix sockets on which the daemon answers requests."""
