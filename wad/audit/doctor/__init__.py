"""`wadctl doctor`: facts are gathered, rules judge them, and a report shows what to do.

`facts` defines the facts; `gathering`, `host`, `service` and `http` collect them without judging; `rules_*` judge
without I/O; `report` combines the findings into one verdict and masks what must not be passed on.
"""
