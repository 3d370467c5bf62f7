"""wad: a daemon that owns WhatsApp accounts."""

__version__ = "0.1.0"
