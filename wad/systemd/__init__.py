"""What wad says to systemd and hears from it: sockets, readiness, the journal, control groups."""
