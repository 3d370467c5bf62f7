"""The targets, by the kind of input."""
