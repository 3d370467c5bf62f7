"""The test server's own tests."""
