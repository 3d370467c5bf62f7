"""`wadctl doctor`: facts are gathered, rules judge them, a report tells what to do.

`facts` says what is known, `host`, `service` and `http` find it out and judge nothing, `rules_*` judge and look at
nothing, `report` makes one verdict of it and hides what must not be passed on.
"""
