"""The embedded store: wad.db, one SQLite file."""
