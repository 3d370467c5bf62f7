"""Random inputs for every interface that accepts untrusted data.

A target takes bytes, or a value that hypothesis draws, and raises only what its documentation names.  `make fuzz N=...`
runs all of them, guided by coverage where atheris can be installed; `test_fuzz.py` runs each for a moment in the suite.
"""
