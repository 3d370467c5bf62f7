"""The daemon's half of the engine."""
