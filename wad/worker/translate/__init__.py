"""The library's events become events of wad.  Pure: one module for each part of the protocol."""
