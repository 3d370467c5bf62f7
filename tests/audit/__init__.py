"""The audits: their rules, and what reads a store for them."""
