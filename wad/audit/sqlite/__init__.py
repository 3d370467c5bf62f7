"""Audit and repair of the embedded store: its rows, the repair, and the undo file."""
