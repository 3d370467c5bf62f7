"""The leader: it holds the lease, and everything exclusive runs inside it."""
