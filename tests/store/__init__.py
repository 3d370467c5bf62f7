"""Stores and leases without a Firestore."""
