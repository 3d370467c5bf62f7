"""Everything that can be asked of the daemon, and the doors through which it is asked."""
