"""The documents that operations answer with, read from the live objects without I/O."""
