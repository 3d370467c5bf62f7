"""Figures as JSON lines, each with its goal and with a reference value or a physical limit measured in the same run.

Machines differ and are noisy: quote `ratio`, the value over the peer's value.
"""
