"""Tests of the moving parts: leader, accounts, inbound, outbound."""
