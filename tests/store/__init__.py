"""Stores and leases without Firestore."""
