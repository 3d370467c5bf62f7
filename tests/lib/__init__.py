"""The helpers of wad.lib."""
