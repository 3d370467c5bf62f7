"""A compromised worker: what it tries, and how it is injected into a real one."""
