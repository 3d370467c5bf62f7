"""Accounts: one task for each, their workers, imports and moves."""
