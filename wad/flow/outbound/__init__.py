"""The send queue: from the outbox to the worker."""
