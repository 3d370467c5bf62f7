"""The interface to systemd: sockets, readiness, the journal, control groups."""
