"""Google's client library: opening a database, calls, listening, commits, decoding."""
