"""The audits: their rules, and their access to a store."""
