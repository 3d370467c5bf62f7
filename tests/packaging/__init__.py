"""Tests of the Debian package that do not build it."""
