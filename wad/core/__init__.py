"""Domain rules: no I/O, no clock, no asyncio.  Every other package may import them; they import none of the others."""
