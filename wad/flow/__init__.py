"""The moving parts: leadership, one task per account, the inbound pipeline and the send queue."""
