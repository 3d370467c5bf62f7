"""The pure heart: no I/O, no clock, no asyncio.  Everything else imports from here, never back."""
