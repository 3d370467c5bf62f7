"""What moves: leader, accounts, inbound, outbound."""
