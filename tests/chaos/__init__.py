"""Seeded trouble for the whole system: kill it, stop it, fill its disk, cut its network, and count what is left.

    make chaos                      25 runs; the last line is JSON, the exit code 0 only when nothing is wrong
    make chaos N=200
    make chaos SEED=123             one run again: the same draws (real time varies)
    make chaos KIND=worker          only this trouble; several with commas
    make chaos LEASE=1              another system: three machines that share one Firestore (`machines`, `history`)

Each run is the real daemon with the real library against the test server of tests/whatsapp.  `scenario` draws the
events and `audit` checks the result, both without I/O; `system` and `faults` execute them; `run` connects them.
"""
