"""The lab: the package on real systemd, in a container, with the real engine and the WhatsApp test server on loopback.

`make lab` runs it; it needs root.  See `__main__.py`.
"""
