"""Tests against the real Firestore emulator."""
