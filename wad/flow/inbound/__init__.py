"""The inbound pipeline: from the spool to the store."""
