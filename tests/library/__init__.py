"""The library's traps, with the real library against the test server."""
