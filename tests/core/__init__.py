"""The rules of wad.core."""
